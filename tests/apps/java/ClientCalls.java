import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What producers and consumers do, a line for each call. Arguments: bootstrap address, a name, and a scenario. */
public final class ClientCalls {
    private static final long T = 1_700_000_000_000L;
    private static final Duration SHORT = Duration.ofMillis(200);
    private static final Duration LONG = Duration.ofSeconds(30);

    private final String bootstrap;
    private final String name;

    private ClientCalls(String bootstrap, String name) {
        this.bootstrap = bootstrap;
        this.name = name;
    }

    public static void main(String[] arguments) throws Exception {
        ClientCalls calls = new ClientCalls(arguments[0], arguments[1]);
        switch (arguments[2]) {
            case "produce" -> calls.produce();
            case "transactions" -> calls.transactions();
            case "share" -> calls.share();
            default -> calls.group(arguments[2]);
        }
    }

    private static void call(String what, Callable<Object> body) {
        try {
            System.out.println(what + ": " + body.call());
        } catch (Exception problem) {
            Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
            System.out.println(what + " failed: " + cause.getClass().getSimpleName());
        }
    }

    private void create(String topic, int partitions, Map<String, String> settings) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(Set.of(new NewTopic(topic, partitions, (short) 1).configs(settings))).all().get();
        }
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(more);
        settings.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap,
            "enable.auto.commit", "false", "auto.offset.reset", "earliest"));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private ProducerRecord<byte[], byte[]> record(int partition, long stamp, String value) {
        return new ProducerRecord<>(name, partition, stamp, "key".getBytes(), value.getBytes());
    }

    private ProducerRecord<byte[], byte[]> empty() {
        return new ProducerRecord<>(name, 0, T, null, null);
    }

    private static String place(RecordMetadata at) {
        return at.partition() + "@" + at.offset() + " " + at.timestamp() + " " + at.serializedValueSize();
    }

    private void produce() throws Exception {
        create(name, 2, Map.of("max.message.bytes", "2000", "message.timestamp.after.max.ms", "1000"));
        byte[] random = new byte[8000];
        new Random(1).nextBytes(random);
        for (Map<String, Object> settings : List.<Map<String, Object>>of(
            Map.of("acks", "all"),
            Map.of("acks", "1", "enable.idempotence", "false"),
            Map.of("acks", "all", "compression.type", "zstd", "linger.ms", "20"),
            Map.of("acks", "0", "enable.idempotence", "false"))) {
            System.out.println(new TreeMap<>(settings));
            try (var producer = producer(settings)) {
                call("send", () -> place(producer.send(record(0, T, "one")).get()));
                call("send", () -> place(producer.send(record(1, T + 1, "")).get()));
                call("send null", () -> place(producer.send(empty()).get()));
                if (!settings.get("acks").equals("0")) {
                    call("too large", () -> place(producer.send(new ProducerRecord<>(name, 0, T, null, random)).get()));
                    call("too late", () -> place(producer.send(record(0, T + (1L << 42), "future")).get()));
                }
                call("after that", () -> place(producer.send(record(0, T + 2, "two")).get()));
            }
        }
        try (var consumer = consumer(Map.of())) {
            Set<TopicPartition> places = Set.of(new TopicPartition(name, 0), new TopicPartition(name, 1));
            consumer.assign(places);
            call("begins", () -> new TreeMap<>(named(consumer.beginningOffsets(places))));
            call("ends", () -> new TreeMap<>(named(consumer.endOffsets(places))));
            call("first", () -> consumer.offsetsForTimes(Map.of(new TopicPartition(name, 0), T)).values());
            call("all", () -> shown(read(consumer, 16)));
            consumer.seek(new TopicPartition(name, 0), 1);
            call("again", () -> shown(read(consumer, 1)).subList(0, 1));
        }
    }

    private void transactions() throws Exception {
        create(name, 2, Map.of());
        Map<String, Object> settings = Map.of("transactional.id", name, "linger.ms", "5");
        var first = producer(settings);
        first.initTransactions();
        call("outside", () -> place(first.send(record(0, T, "outside")).get()));
        transaction(first, "committed", true);
        transaction(first, "aborted", false);
        first.beginTransaction();
        call("open", () -> place(first.send(record(0, T, "open")).get()));
        var second = producer(settings);
        second.initTransactions();
        call("fenced send", () -> place(first.send(record(0, T, "fenced")).get()));
        call("fenced commit", () -> {
            first.commitTransaction();
            return "committed";
        });
        call("fenced close", () -> {
            first.close();
            return "closed";
        });
        transaction(second, "by the second", true);
        try (var consumer = consumer(Map.of("group.id", name))) {
            consumer.subscribe(Set.of(name));
            consumer.poll(SHORT);
            second.beginTransaction();
            call("offsets", () -> {
                second.sendOffsetsToTransaction(
                    Map.of(new TopicPartition(name, 0), new OffsetAndMetadata(3, "note")), consumer.groupMetadata());
                second.commitTransaction();
                return consumer.committed(Set.of(new TopicPartition(name, 0)));
            });
        }
        second.close();
        try (var third = producer(settings)) {
            third.initTransactions();  // which the coordinator lets begin when the last markers are written
        }
        for (String level : List.of("read_committed", "read_uncommitted")) {
            try (var consumer = consumer(Map.of("isolation.level", level))) {
                Set<TopicPartition> places = Set.of(new TopicPartition(name, 0), new TopicPartition(name, 1));
                consumer.assign(places);
                call("ends " + level, () -> new TreeMap<>(named(consumer.endOffsets(places))));
                call("seen " + level, () -> shown(read(consumer, level.equals("read_committed") ? 21 : 32)));
            }
        }
    }

    private void transaction(KafkaProducer<byte[], byte[]> producer, String what, boolean commit) {
        producer.beginTransaction();
        for (int number = 0; number < 10; number++) {
            producer.send(record(number % 2, T + number, what + " " + number));
        }
        call(what, () -> {
            producer.flush();
            if (commit) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
            return "done";
        });
    }

    private void group(String protocol) throws Exception {
        create(name, 4, Map.of());
        Map<String, Object> settings = Map.of("group.id", name, "group.protocol", protocol);
        var first = consumer(settings);
        var second = consumer(settings);
        first.subscribe(Set.of(name));
        settle(first, null, 4);
        call("alone", () -> partitions(first.assignment()));
        second.subscribe(Set.of(name));
        settle(first, second, 2);
        call("two", () -> partitions(first.assignment()).size() + " " + partitions(second.assignment()).size());
        call("all", () -> {
            Set<Integer> all = new TreeSet<>(partitions(first.assignment()));
            all.addAll(partitions(second.assignment()));
            return all;
        });
        try (var producer = producer(Map.of("linger.ms", "20")); Admin admin = Admin.create(
            Map.of("bootstrap.servers", bootstrap))) {
            for (int number = 0; number < 40; number++) {
                producer.send(record(number % 4, T + number, "v" + number));
            }
            producer.flush();
            List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>(read(first, 20));
            records.addAll(read(second, 20));
            call("read", () -> shown(records));
            call("described", () -> {
                var group = admin.describeConsumerGroups(Set.of(name)).all().get().get(name);
                return group.type() + " " + group.groupState() + " " + group.partitionAssignor() + " "
                    + group.members().stream().map(each -> each.assignment().topicPartitions().size()).toList();
            });
            call("commit", () -> {
                first.commitSync();
                second.commitSync();
                return new TreeMap<>(named(admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get()));
            });
            second.close();
            settle(first, null, 4);
            call("alone again", () -> partitions(first.assignment()));
            call("commit elsewhere", () -> {
                first.commitSync(Map.of(new TopicPartition(name, 0), new OffsetAndMetadata(2, "note")));
                return first.committed(Set.of(new TopicPartition(name, 0))).values();
            });
            call("delete a group in use", () -> admin.deleteConsumerGroups(Set.of(name)).all().get());
            first.close();
            call("delete it", () -> admin.deleteConsumerGroups(Set.of(name)).all().get());
        }
    }

    /** Poll, before there are records, until the members have that many partitions each. */
    private static void settle(KafkaConsumer<?, ?> first, KafkaConsumer<?, ?> second, int wanted) {
        long end = System.currentTimeMillis() + LONG.toMillis();
        while (first.assignment().size() != wanted || second != null && second.assignment().size() != wanted) {
            if (System.currentTimeMillis() > end) {
                throw new IllegalStateException("the members were not given their partitions");
            }
            first.poll(SHORT);
            if (second != null) {
                second.poll(SHORT);
            }
        }
    }

    private void share() throws Exception {
        create(name, 1, Map.of());
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
            var producer = producer(Map.of("linger.ms", "20"))) {
            var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"),
                AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, name),
                List.of(earliest))).all().get();
            for (int number = 0; number < 12; number++) {
                producer.send(record(0, T + number, "v" + number));
            }
            producer.flush();
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "group.id", name,
                "share.acknowledgement.mode", "explicit");
            for (int round = 1; round <= 3; round++) {
                int number = round;
                try (var member = new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(),
                    new ByteArrayDeserializer())) {
                    member.subscribe(Set.of(name));
                    call("round " + number, () -> acknowledged(member, number));
                }
            }
            call("described", () -> {
                var group = admin.describeShareGroups(Set.of(name)).all().get().get(name);
                return group.groupState() + " " + group.members().size() + " " + group.coordinator().id();
            });
            call("delete", () -> admin.deleteShareGroups(Set.of(name)).all().get());
        }
    }

    /** First 12 records: accept, release and reject by turns. Then the 4 released: half again; then those 2. */
    private static List<String> acknowledged(KafkaShareConsumer<byte[], byte[]> member, int round) {
        int wanted = round == 1 ? 12 : round == 2 ? 4 : 2;
        List<String> seen = new ArrayList<>();
        long end = System.currentTimeMillis() + LONG.toMillis();
        while (seen.size() < wanted && System.currentTimeMillis() < end) {
            for (ConsumerRecord<byte[], byte[]> each : member.poll(SHORT)) {
                AcknowledgeType answer = AcknowledgeType.ACCEPT;
                if (round == 1 && each.offset() % 3 > 0) {
                    answer = each.offset() % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT;
                } else if (round == 2 && each.offset() > 5) {
                    answer = AcknowledgeType.RELEASE;
                }
                member.acknowledge(each, answer);
                seen.add(each.offset() + " " + new String(each.value()) + " " + each.timestamp() + " "
                    + each.deliveryCount().orElse((short) 0) + " " + answer);
            }
            member.commitSync().values().forEach(problem -> problem.ifPresent(each -> seen.add(each.toString())));
        }
        return seen.stream().sorted().toList();
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long end = System.currentTimeMillis() + LONG.toMillis();
        while (found.size() < count && System.currentTimeMillis() < end) {
            consumer.poll(SHORT).forEach(found::add);
        }
        return found;
    }

    private static List<String> shown(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(each -> each.partition() + "@" + String.format("%03d", each.offset()) + " "
            + each.timestampType() + " " + each.timestamp() + " " + each.leaderEpoch() + " "
            + each.serializedKeySize() + " " + (each.value() == null ? null : new String(each.value()))).sorted().toList();
    }

    private static Collection<Integer> partitions(Collection<TopicPartition> places) {
        return places.stream().map(TopicPartition::partition).sorted().toList();
    }

    private static <V> Map<String, V> named(Map<TopicPartition, V> byPlace) {
        Map<String, V> found = new TreeMap<>();
        byPlace.forEach((place, value) -> found.put(place.toString(), value));
        return found;
    }
}
