import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.Scanner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/**
 * Counts words, in all and by the minute: a repartition topic, a table and a windowed store with their changelogs.
 *
 * <p>Arguments: a properties file, the input topic, the output topic. It says "running", and "restored STORE RECORDS"
 * for each changelog partition that it read. Every line typed into it is answered by the tables and "end".
 */
public final class WordCounts {
    private static final Duration LONG = Duration.ofDays(3650);

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            settings.load(reader);
        }
        KafkaStreams streams = new KafkaStreams(topology(arguments[1], arguments[2]), settings);
        streams.setGlobalStateRestoreListener(new Restored());
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING || now == KafkaStreams.State.ERROR) {
                say(now.name().toLowerCase());
            }
        });
        streams.start();
        Scanner typed = new Scanner(System.in);
        while (typed.hasNextLine()) {
            typed.nextLine();
            showTables(streams);
        }
        streams.close(Duration.ofSeconds(20));
    }

    private static Topology topology(String input, String output) {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, String> words = builder
            .stream(input, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()));
        words.count(Materialized.as("total"))
            .toStream()
            .mapValues(String::valueOf)
            .to(output, Produced.with(Serdes.String(), Serdes.String()));
        // Nothing is ever late: what is counted then depends on the input alone.
        words.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), LONG))
            .count(Materialized.<String, Long, org.apache.kafka.streams.state.WindowStore<
                org.apache.kafka.common.utils.Bytes, byte[]>>as("by-minute").withRetention(LONG.plusDays(1)));
        return builder.build();
    }

    private static void showTables(KafkaStreams streams) {
        var totals = streams.store(StoreQueryParameters.fromNameAndType("total",
            QueryableStoreTypes.<String, Long>keyValueStore()));
        try (var rows = totals.all()) {
            rows.forEachRemaining(row -> say("total " + row.key + " " + row.value));
        }
        var minutes = streams.store(StoreQueryParameters.fromNameAndType("by-minute",
            QueryableStoreTypes.<String, Long>windowStore()));
        try (var rows = minutes.all()) {
            rows.forEachRemaining(row ->
                say("by-minute " + row.key.key() + "@" + row.key.window().start() + " " + row.value));
        }
        say("end");
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static final class Restored implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition place, String store, long start, long end) {
        }

        @Override
        public void onBatchRestored(TopicPartition place, String store, long end, long count) {
        }

        @Override
        public void onRestoreEnd(TopicPartition place, String store, long count) {
            say("restored " + store + " " + count);
        }
    }
}
