import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills batches to the last byte.
 *
 * <p>Arguments: a properties file, the topic, the number of records, their size, "random" or "text". It prints what
 * became of the records: a line for each outcome, with how many had it.
 */
public final class FullBatches {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            settings.load(reader);
        }
        int count = Integer.parseInt(arguments[2]);
        int size = Integer.parseInt(arguments[3]);
        boolean isRandom = arguments[4].equals("random");
        Random random = new Random(1);
        TreeMap<String, Integer> outcomes = new TreeMap<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int number = 0; number < count; number++) {
                byte[] value = new byte[size];
                if (isRandom) {
                    random.nextBytes(value);
                }
                producer.send(new ProducerRecord<>(arguments[1], 0, null, value), (metadata, error) -> {
                    synchronized (outcomes) {
                        outcomes.merge(error == null ? "delivered" : error.getClass().getSimpleName(), 1, Integer::sum);
                    }
                });
            }
            producer.flush();
        }
        outcomes.forEach((outcome, records) -> System.out.println(outcome + " " + records));
    }
}
