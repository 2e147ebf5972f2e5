import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringSerializer;

/** Every administrative call, a line each: its name, and what came of it. Arguments: bootstrap address, topic name. */
public final class AdminCalls {
    private static final long T = 1_700_000_000_000L;

    private final Admin admin;
    private final String bootstrap;
    private final String name;
    private final ConfigResource topic;

    private AdminCalls(Admin admin, String bootstrap, String name) {
        this.admin = admin;
        this.bootstrap = bootstrap;
        this.name = name;
        this.topic = new ConfigResource(ConfigResource.Type.TOPIC, name);
    }

    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            AdminCalls calls = new AdminCalls(admin, arguments[0], arguments[1]);
            calls.topics();
            calls.settings();
            calls.cluster();
            calls.offsets();
            calls.groups();
            calls.accessRules();
            calls.quotas();
            calls.scramUsers();
            calls.transactions();
            calls.ends();
        }
    }

    private static void call(String what, Callable<Object> body) {
        System.out.println(said(what, body));
    }

    private static String said(String what, Callable<Object> body) {
        try {
            return what + ": " + body.call();
        } catch (Exception problem) {
            Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
            return what + " failed: " + cause.getClass().getSimpleName() + ": " + cause.getMessage();
        }
    }

    /** A call that is made until a broker knows what the controller has decided. */
    private static void eventually(String what, String awaited, Callable<Object> body) throws InterruptedException {
        long end = System.currentTimeMillis() + 20_000;
        String said = "";
        do {
            Thread.sleep(said.isEmpty() ? 0 : 20);
            said = said(what, body);
        } while (!said.contains(awaited) && System.currentTimeMillis() < end);
        System.out.println(said);
    }

    private void topics() throws Exception {
        NewTopic wanted = new NewTopic(name, 2, (short) 1).configs(Map.of("retention.ms", "99999999999999"));
        call("validate", () -> admin.createTopics(Set.of(wanted), new CreateTopicsOptions().validateOnly(true))
            .numPartitions(name).get());
        var created = admin.createTopics(Set.of(wanted));
        call("create", () -> created.numPartitions(name).get() + " " + created.replicationFactor(name).get());
        call("create: settings", () -> shown(created.config(name).get()));
        call("create again", () -> admin.createTopics(Set.of(wanted)).all().get());
        for (NewTopic bad : List.of(
            new NewTopic(name + "-1", 0, (short) 1),
            new NewTopic(name + "-2", 1, (short) 3),
            new NewTopic("not a name", 1, (short) 1),
            new NewTopic(name + "-3", 1, (short) 1).configs(Map.of("retention.ms", "much")),
            new NewTopic(name + "-4", 1, (short) 1).configs(Map.of("no.such.thing", "1")))) {
            call("create badly", () -> admin.createTopics(Set.of(bad)).all().get());
        }
        call("more partitions", () -> admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get());
        call("fewer partitions", () -> admin.createPartitions(Map.of(name, NewPartitions.increaseTo(1))).all().get());
        eventually("describe", "2 0[0]", () -> shown(admin.describeTopics(Set.of(name),
            new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames().get().get(name)));
        call("describe nothing", () -> admin.describeTopics(Set.of(name + "-none")).allTopicNames().get());
        eventually("list", "true", () -> admin.listTopics(new ListTopicsOptions().listInternal(false)).names().get().contains(name));
    }

    private void settings() throws Exception {
        eventually("settings", "retention.ms=99999999999999", () -> shown(admin.describeConfigs(Set.of(topic)).all().get().get(topic)));
        for (String node : List.of("0", "")) {  // itself, and all brokers' common ones
            ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node);
            call("broker's settings", () -> shown(admin.describeConfigs(Set.of(broker)).all().get().get(broker)));
        }
        change("retention.ms", "7654321", AlterConfigOp.OpType.SET, "retention.ms=7654321");
        change("retention.ms", "soon", AlterConfigOp.OpType.SET, "retention.ms=7654321");
        change("cleanup.policy", "compact", AlterConfigOp.OpType.APPEND, "cleanup.policy=delete,compact");
        change("cleanup.policy", "compact", AlterConfigOp.OpType.SUBTRACT, "cleanup.policy=delete, ");
        change("retention.ms", "", AlterConfigOp.OpType.DELETE, "retention.ms=-1");
        call("other settings", () -> admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS),
            new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get());
    }

    private void change(String key, String value, AlterConfigOp.OpType how, String then) throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(key, value), how);
        call("change " + change, () -> admin.incrementalAlterConfigs(Map.of(topic, List.of(change))).all().get());
        eventually("changed", then, () -> admin.describeConfigs(Set.of(topic)).all().get().get(topic).entries().stream()
            .filter(each -> Set.of("retention.ms", "cleanup.policy").contains(each.name()))
            .map(each -> each.name() + "=" + each.value()).sorted().toList());
    }

    private void cluster() throws Exception {
        var described = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        call("cluster", () -> described.clusterId().get() + ids(described.nodes().get())
            + new TreeSet<>(described.authorizedOperations().get()));
        call("features", () -> new TreeMap<>(admin.describeFeatures().featureMetadata().get().finalizedFeatures()));
        call("supported", () -> new TreeMap<>(admin.describeFeatures().featureMetadata().get().supportedFeatures()));
        call("quorum", () -> admin.describeMetadataQuorum().quorumInfo().get().voters().stream()
            .map(each -> each.replicaId()).toList());
        eventually("log dirs", name + "-2", () -> admin.describeLogDirs(Set.of(0)).allDescriptions().get().get(0).values().stream()
            .flatMap(each -> each.replicaInfos().keySet().stream()).filter(each -> each.topic().equals(name))
            .map(TopicPartition::toString).sorted().toList());
        TopicPartition first = new TopicPartition(name, 0);
        call("elect", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(first)).partitions().get()
            .get(first).map(problem -> problem.getClass().getSimpleName()));
        call("reassign", () -> admin.alterPartitionReassignments(
            Map.of(first, Optional.of(new NewPartitionReassignment(List.of(0))))).all().get());
        call("reassign badly", () -> admin.alterPartitionReassignments(
            Map.of(first, Optional.of(new NewPartitionReassignment(List.of(77))))).all().get());
        call("reassignments", () -> admin.listPartitionReassignments(Set.of(first)).reassignments().get());
        call("tokens", () -> admin.describeDelegationToken().delegationTokens().get());
    }

    private void offsets() throws Exception {
        Properties settings = new Properties();
        settings.putAll(Map.of("bootstrap.servers", bootstrap, "linger.ms", "0"));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < 10; number++) {  // a batch each
                long stamp = T + (number * 7 % 10) * 1000;
                var record = new ProducerRecord<>(name, 0, stamp, "k", "v" + number);
                call("send", () -> shownPlace(producer.send(record).get()));
            }
        }
        TopicPartition place = new TopicPartition(name, 0);
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(),
            OffsetSpec.forTimestamp(T + 4500), OffsetSpec.forTimestamp(T + 9000), OffsetSpec.forTimestamp(T + 9001))) {
            call("offset", () -> {
                var found = admin.listOffsets(Map.of(place, spec)).all().get().get(place);
                return found.offset() + " " + found.timestamp() + " " + found.leaderEpoch();
            });
        }
        call("delete records", () -> admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(4)))
            .lowWatermarks().get(place).get().lowWatermark());
        call("delete too many", () -> admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(400))).all().get());
        call("begins at", () -> admin.listOffsets(Map.of(place, OffsetSpec.earliest())).all().get().get(place).offset());
        call("producers", () -> admin.describeProducers(Set.of(place)).all().get().get(place).activeProducers().stream()
            .map(each -> each.producerEpoch() + " " + each.lastSequence() + " " + each.currentTransactionStartOffset())
            .toList());
    }

    private void groups() {
        TopicPartition place = new TopicPartition(name, 0);
        String group = name + "-group";
        call("set offsets", () -> admin.alterConsumerGroupOffsets(group, Map.of(place, new OffsetAndMetadata(5)))
            .all().get());
        call("offsets", () -> admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
        call("group", () -> {
            var described = admin.describeConsumerGroups(Set.of(group)).all().get().get(group);
            return described.groupState() + " " + described.members() + " " + described.coordinator().id();
        });
        call("no group", () -> admin.describeConsumerGroups(Set.of(group + "-none")).all().get());
        call("listed", () -> admin.listGroups().all().get().stream().filter(each -> each.groupId().equals(group))
            .toList());
        call("delete offsets", () -> admin.deleteConsumerGroupOffsets(group, Set.of(place)).all().get());
        call("offsets", () -> admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
        call("delete group", () -> admin.deleteConsumerGroups(Set.of(group)).all().get());
        call("delete it again", () -> admin.deleteConsumerGroups(Set.of(group)).all().get());
    }

    private void accessRules() throws Exception {
        AclBinding rule = new AclBinding(new ResourcePattern(ResourceType.TOPIC, name, PatternType.LITERAL),
            new AccessControlEntry("User:" + name, "10.1.2.3", AclOperation.READ, AclPermissionType.ALLOW));
        AclBindingFilter filter = new AclBindingFilter(
            new ResourcePatternFilter(ResourceType.TOPIC, name, PatternType.ANY),
            org.apache.kafka.common.acl.AccessControlEntryFilter.ANY);
        call("allow", () -> admin.createAcls(Set.of(rule)).all().get());
        eventually("rules", "10.1.2.3", () -> admin.describeAcls(filter).values().get());
        call("forbid", () -> admin.deleteAcls(Set.of(filter)).all().get());
        eventually("rules", "[]", () -> admin.describeAcls(filter).values().get());
    }

    private void quotas() throws Exception {
        ClientQuotaEntity who = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, name));
        ClientQuotaFilter filter = ClientQuotaFilter.contains(
            Set.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, name)));
        for (String rate : List.of("producer_byte_rate", "no_such_rate", "")) {
            var change = new ClientQuotaAlteration.Op(rate.isEmpty() ? "producer_byte_rate" : rate,
                rate.isEmpty() ? null : 12345.0);
            call("quota", () -> admin.alterClientQuotas(Set.of(new ClientQuotaAlteration(who, Set.of(change))))
                .all().get());
            eventually("quotas", rate.isEmpty() ? "{}" : "12345.0",
                () -> admin.describeClientQuotas(filter).entities().get());
        }
    }

    private void scramUsers() throws Exception {
        ScramCredentialInfo kind = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
        call("user", () -> admin.alterUserScramCredentials(
            List.of(new UserScramCredentialUpsertion(name, kind, "secret"))).all().get());
        eventually("users", "SCRAM", () -> admin.describeUserScramCredentials(List.of(name)).all().get());
        call("weak user", () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(name,
            new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 1), "secret"))).all().get());
        call("no user", () -> admin.alterUserScramCredentials(
            List.of(new UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_256))).all().get());
        eventually("users", "credentialInfos=[]", () -> admin.describeUserScramCredentials(List.of(name)).all().get());
    }

    private void transactions() {
        call("transactions", () -> admin.listTransactions().all().get().stream()
            .filter(each -> each.transactionalId().startsWith(name)).toList());
        call("no transaction", () -> admin.describeTransactions(Set.of(name + "-none")).all().get());
        call("fence", () -> admin.fenceProducers(Set.of(name + "-fenced")).all().get());
    }

    private void ends() {
        call("delete", () -> admin.deleteTopics(Set.of(name)).all().get());
        call("delete again", () -> admin.deleteTopics(Set.of(name)).all().get());
    }

    private static String shown(Config config) {
        return config.entries().stream().map(each -> each.name() + "=" + each.value() + " " + each.source())
            .sorted().collect(Collectors.joining("\n  ", "\n  ", ""));
    }

    private static String shown(TopicDescription topic) {
        return topic.isInternal() + " " + new TreeSet<>(topic.authorizedOperations()) + topic.partitions().stream()
            .map(each -> each.partition() + " " + each.leader().id() + ids(each.replicas()) + ids(each.isr())
                + each.elr() + each.lastKnownElr()).toList();
    }

    private static String shownPlace(org.apache.kafka.clients.producer.RecordMetadata at) {
        return at.partition() + " " + at.offset() + " " + at.timestamp() + " " + at.serializedKeySize() + " "
            + at.serializedValueSize();
    }

    private static List<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).sorted().toList();
    }
}
