// The tests' own Kafka client, built on Apache Kafka's Java client and independent of kbr: it writes the data
// that backup tools get wrong, and reads records and groups back as an application would.
//
//   dataset --bootstrap ADDRESS --prefix PREFIX      writes the hard data set; prints what it wrote as JSON
//   seed    --bootstrap ADDRESS FILE                 writes the data of a rehearsal's seed file (examples/seed.json)
//   load    --bootstrap ADDRESS --topic TOPIC --partitions N --records N --size BYTES --codec CODEC --batch BYTES [--letters yes]
//           a new topic with so many records for a benchmark, evenly spread (scripts/bench)
//   dump    --bootstrap ADDRESS --topic TOPIC,…      every record a read_committed consumer sees, as JSON lines
//   next    --bootstrap ADDRESS --group GROUP        the record each partition of a group would read next
//   commit  --bootstrap ADDRESS --group GROUP TOPIC:PARTITION:OFFSET[:METADATA]…
//   join    --bootstrap ADDRESS --group GROUP --topic TOPIC [--protocol classic|consumer]
//           an active member: prints "joined" once it has partitions, leaves when standard input ends
//   hang    --bootstrap ADDRESS --topic TOPIC        a transaction left open: prints "open", aborts when input ends
//   session --bootstrap ADDRESS                      answers commands in JSON, line by line (Session.java)

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Helper {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    /** 2025-06-01T00:00:00Z: the data set's clock starts here, so that a time bound in a test is a constant. */
    private static final long EPOCH = 1_748_736_000_000L;
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    private final String bootstrap;
    private final Map<String, String> options;
    private final List<String> arguments;

    private Helper(Map<String, String> options, List<String> arguments) {
        this.options = options;
        this.arguments = arguments;
        this.bootstrap = option("bootstrap");
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) throw new IllegalArgumentException("a command is missing: dataset, seed, load, dump, next, commit, join, hang, session");
        Map<String, String> options = new HashMap<>();
        List<String> arguments = new ArrayList<>();
        for (int i = 1; i < args.length; i++) {
            if (args[i].startsWith("--")) options.put(args[i].substring(2), args[++i]);
            else arguments.add(args[i]);
        }
        Helper helper = new Helper(options, arguments);
        switch (args[0]) {
            case "dataset" -> helper.dataset(helper.option("prefix"));
            case "seed" -> helper.seed(helper.arguments.get(0));
            case "load" -> helper.load(helper.option("topic"));
            case "dump" -> helper.dump(helper.option("topic"));
            case "next" -> helper.next(helper.option("group"));
            case "commit" -> helper.commit(helper.option("group"));
            case "join" -> helper.join(helper.option("group"), helper.option("topic"));
            case "hang" -> helper.hang(helper.option("topic"));
            case "session" -> {
                try (var session = new Session(helper.bootstrap)) {
                    session.run();
                }
            }
            default -> throw new IllegalArgumentException("no command " + args[0]);
        }
    }

    private String option(String name) {
        String value = options.get(name);
        if (value == null) throw new IllegalArgumentException("--" + name + " is missing");
        return value;
    }

    // ------------------------------------------------------------------------------------------ clients

    private Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "linger.ms", 20, "delivery.timeout.ms", 60_000));
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "isolation.level", "read_committed",
            "enable.auto.commit", false, "auto.offset.reset", "none"));
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    // ------------------------------------------------------------------------------------------ reading

    private static Map<String, Object> describe(ConsumerRecord<byte[], byte[]> record) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("partition", record.partition());
        line.put("offset", record.offset());
        line.put("timestamp", record.timestamp());
        line.put("type", record.timestampType().name);
        line.put("key", base64(record.key()));
        line.put("value", base64(record.value()));
        List<List<String>> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            List<String> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(base64(header.value()));
            headers.add(pair);
        }
        line.put("headers", headers);
        return line;
    }

    private static String base64(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }

    private static void print(Object value) throws Exception {
        System.out.println(JSON.writeValueAsString(value));
    }

    /** Reads one partition from an offset to its last stable offset, or to the first record found. */
    private static List<ConsumerRecord<byte[], byte[]>> read(
            KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition, long from, boolean onlyFirst) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        consumer.assign(List.of(partition));
        long end = consumer.endOffsets(List.of(partition), PATIENCE).get(partition);
        consumer.seek(partition, from);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (consumer.position(partition, PATIENCE) < end && !(onlyFirst && !found.isEmpty())) {
            if (System.nanoTime() > deadline) throw new IllegalStateException(partition + " was not read to " + end + " in time");
            found.addAll(consumer.poll(Duration.ofMillis(200)).records(partition));
        }
        return found;
    }

    private void dump(String names) throws Exception {
        try (var consumer = consumer(Map.of())) {
            for (String topic : names.split(",")) {
                List<Integer> partitions = new ArrayList<>();
                for (PartitionInfo info : consumer.partitionsFor(topic, PATIENCE)) partitions.add(info.partition());
                for (int id : new TreeSet<>(partitions)) {
                    TopicPartition partition = new TopicPartition(topic, id);
                    consumer.assign(List.of(partition));
                    long start = consumer.beginningOffsets(List.of(partition), PATIENCE).get(partition);
                    for (var record : read(consumer, partition, start, false)) {
                        Map<String, Object> line = new LinkedHashMap<>();
                        line.put("topic", topic);
                        line.putAll(describe(record));
                        print(line);
                    }
                }
            }
        }
    }

    private void next(String group) throws Exception {
        try (var admin = admin(); var consumer = consumer(Map.of())) {
            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            Map<String, TopicPartition> sorted = new TreeMap<>();
            for (TopicPartition partition : committed.keySet())
                sorted.put(partition.topic() + "/" + String.format("%06d", partition.partition()), partition);
            for (TopicPartition partition : sorted.values()) {
                OffsetAndMetadata at = committed.get(partition);
                var records = read(consumer, partition, at.offset(), true);
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("topic", partition.topic());
                line.put("partition", partition.partition());
                line.put("committed", at.offset());
                line.put("leader_epoch", at.leaderEpoch().orElse(-1));
                line.put("metadata", at.metadata());
                line.put("next", records.isEmpty() ? null : describe(records.get(0)));
                print(line);
            }
        }
    }

    // ------------------------------------------------------------------------------------------- groups

    private void commit(String group) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (String argument : arguments) {
            String[] part = argument.split(":", 4);
            offsets.put(new TopicPartition(part[0], Integer.parseInt(part[1])),
                new OffsetAndMetadata(Long.parseLong(part[2]), Optional.empty(), part.length > 3 ? part[3] : ""));
        }
        try (var admin = admin()) {
            admin.alterConsumerGroupOffsets(group, offsets).all().get();
        }
    }

    private void join(String group, String topic) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("group.id", group, "auto.offset.reset", "earliest"));
        if (options.containsKey("protocol")) config.put("group.protocol", options.get("protocol"));
        try (var consumer = consumer(config)) {
            consumer.subscribe(List.of(topic));
            boolean joined = false;
            while (!ended()) {
                consumer.poll(Duration.ofMillis(100));
                if (!joined && !consumer.assignment().isEmpty()) {
                    joined = true;
                    System.out.println("joined");
                }
            }
        }
    }

    /** Standard input is watched from its own thread, since a read of it cannot be given a time limit. */
    private Thread watcher;

    private boolean ended() {
        if (watcher == null) {
            watcher = new Thread(() -> {
                try {
                    System.in.readAllBytes();
                } catch (java.io.IOException closed) {
                    // A closed input ends the watch like its end does.
                }
            });
            watcher.setDaemon(true);
            watcher.start();
        }
        return !watcher.isAlive();
    }

    private void hang(String topic) throws Exception {
        try (var producer = producer(Map.of("transactional.id", "hang-" + topic, "transaction.timeout.ms", 600_000))) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, bytes("open"), bytes("not committed"))).get();
            System.out.println("open");
            while (!ended()) Thread.sleep(50);
            producer.abortTransaction();
        }
    }

    // ----------------------------------------------------------------------------------- the example data

    private void seed(String file) throws Exception {
        JsonNode seed = JSON.readTree(new File(file));
        long now = System.currentTimeMillis();
        try (var admin = admin(); var producer = producer(Map.of())) {
            for (var topic : seed.get("topics").properties()) {
                Map<String, String> configs = new HashMap<>();
                for (var config : topic.getValue().path("configs").properties()) configs.put(config.getKey(), config.getValue().asText());
                create(admin, topic.getKey(), topic.getValue().get("partitions").asInt(), configs);
                for (JsonNode record : topic.getValue().get("records")) {
                    long at = now - 60_000 * Long.parseLong(record.get("at").asText().replaceAll("[-m]", ""));
                    var wanted = new ProducerRecord<>(topic.getKey(), record.get("partition").asInt(), at,
                        content(record.get("key")), content(record.get("value")));
                    for (JsonNode header : record.path("headers")) wanted.headers().add(header.get(0).asText(), content(header.get(1)));
                    producer.send(wanted).get();
                }
            }
            for (var group : seed.get("groups").properties()) {
                List<Map.Entry<TopicPartition, OffsetAndMetadata>> offsets = new ArrayList<>();
                for (var topic : group.getValue().properties())
                    for (int i = 0; i < topic.getValue().size(); i++) offsets.add(at(topic.getKey(), i, topic.getValue().get(i).asLong(), ""));
                commitGroup(admin, group.getKey(), offsets);
            }
        }
        print(Map.of("topics", topics, "groups", groups));
    }

    /** A text as it is, anything else as JSON, null as null. */
    private static byte[] content(JsonNode node) {
        return node == null || node.isNull() ? null : bytes(node.isTextual() ? node.asText() : node.toString());
    }

    // ------------------------------------------------------------------------------ records for a benchmark

    private static final int PARTITIONS_AT_ONCE = 5000;

    /** The same records for the same arguments. Values are orders as JSON, cut to the size asked for, or letters. */
    private void load(String topic) throws Exception {
        int partitions = Integer.parseInt(option("partitions")), records = Integer.parseInt(option("records"));
        int size = Integer.parseInt(option("size"));
        boolean letters = options.containsKey("letters");
        int batch = Integer.parseInt(option("batch"));
        // A batch costs the producer a kilobyte or so besides its bytes, and half a million of tiny ones would wait.
        long buffer = batch < 4096 ? 2L << 20 : 64L << 20;
        Map<String, Object> config = Map.of("compression.type", option("codec"), "batch.size", batch,
            "linger.ms", 100, "buffer.memory", buffer,
            // A topic just made may refuse the first batch of a partition; those behind it would then be out of order.
            "max.in.flight.requests.per.connection", 1);
        long bytes = 0;
        try (var admin = admin(); var producer = producer(config)) {
            // A controller takes ten thousand records in one request, and a partition is one.
            create(admin, topic, Math.min(partitions, PARTITIONS_AT_ONCE), Map.of("retention.ms", "-1"));
            for (int made = PARTITIONS_AT_ONCE; made < partitions; made += PARTITIONS_AT_ONCE)
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(Math.min(partitions, made + PARTITIONS_AT_ONCE)))).all().get();
            SplittableRandom random = new SplittableRandom(4711);
            String[] words = words(random);
            List<Future<RecordMetadata>> last = new ArrayList<>();
            for (int i = 0; i < records; i++) {
                String customer = "customer-" + (100_000 + random.nextInt(50_000));
                byte[] value = letters ? letters(random, size) : order(random, words, i, customer, size);
                bytes += value.length;
                // Ten in a row, so that a partition with ten records gets them in one batch.
                var sent = producer.send(new ProducerRecord<>(topic, i / 10 % partitions, EPOCH + i, bytes(customer), value));
                if (i >= records - 10 * partitions) last.add(sent);
            }
            producer.flush();
            for (var sent : last) sent.get();
        }
        print(Map.of("topic", topic, "partitions", partitions, "records", records, "value_bytes", bytes));
    }

    /** What kafka-producer-perf-test writes unless it is given a file. */
    private static byte[] letters(SplittableRandom random, int size) {
        byte[] value = new byte[size];
        for (int i = 0; i < size; i++) value[i] = (byte) ('A' + random.nextInt(26));
        return value;
    }

    private static String[] words(SplittableRandom random) {
        String[] syllables = {"an", "be", "cor", "da", "el", "fi", "gra", "hol", "in", "ka", "lum", "mo", "ner", "or", "pel", "ri", "su", "ta", "ver", "zen"};
        String[] words = new String[4000];
        for (int i = 0; i < words.length; i++) {
            StringBuilder word = new StringBuilder();
            for (int part = 1 + random.nextInt(3); part >= 0; part--) word.append(syllables[random.nextInt(syllables.length)]);
            words[i] = word.toString();
        }
        return words;
    }

    /** Names and codes that repeat, numbers that hardly do, identifiers that never do, and a text: zstd makes a third or a fourth of it. */
    private static byte[] order(SplittableRandom random, String[] words, int number, String customer, int size) {
        String[] states = {"created", "paid", "picked", "shipped", "delivered", "returned"};
        StringBuilder json = new StringBuilder(size + 64);
        json.append("{\"event\":\"order.updated\",\"schema\":3,\"order\":\"").append(hex(random)).append(hex(random))
            .append("\",\"number\":").append(7_000_000 + number).append(",\"at\":\"").append(Instant.ofEpochMilli(EPOCH + number))
            .append("\",\"customer\":\"").append(customer).append("\",\"status\":\"").append(states[random.nextInt(states.length)])
            .append("\",\"currency\":\"EUR\",\"items\":[");
        for (int item = 1 + random.nextInt(3); item >= 0; item--)
            json.append("{\"article\":\"").append(words[random.nextInt(words.length)]).append('-').append(random.nextInt(1000))
                .append("\",\"quantity\":").append(1 + random.nextInt(9)).append(",\"price\":").append(random.nextInt(20_000) / 100.0)
                .append(item == 0 ? "}" : "},");
        json.append("],\"trace\":\"").append(hex(random)).append("\",\"note\":\"");
        // Few words make up most of a text.
        while (json.length() < size - 2) {
            double draw = random.nextDouble();
            json.append(words[(int) (draw * draw * draw * words.length)]).append(' ');
        }
        json.setLength(Math.max(size - 2, 0));
        return bytes(json.append("\"}").toString());
    }

    private static String hex(SplittableRandom random) {
        return String.format("%016x", random.nextLong());
    }

    // ------------------------------------------------------------------------------------- the data set

    private final Map<String, Integer> topics = new LinkedHashMap<>();
    private final Map<String, Integer> groups = new LinkedHashMap<>();

    private void dataset(String prefix) throws Exception {
        try (var admin = admin()) {
            writeHeaders(admin, prefix + "headers");
            writeKeys(admin, prefix + "keys");
            for (String codec : CODECS) writeCodec(admin, prefix + "codec-" + codec, codec);
            writeTransactions(admin, prefix + "transactions");
            writeAppendTime(admin, prefix + "append-time");
            writeOutOfOrder(admin, prefix + "out-of-order");
            writeTrimmed(admin, prefix + "trimmed");
            create(admin, prefix + "empty", 2, Map.of("retention.ms", "-1"));
            writeCompacted(admin, prefix + "compacted");
            commitGroups(admin, prefix);
        }
        print(Map.of("prefix", prefix, "topics", topics, "groups", groups));
    }

    private void create(Admin admin, String topic, int partitions, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
        topics.put(topic, partitions);
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int partition, Long time, String key, String value) {
        return new ProducerRecord<>(topic, partition, time, bytes(key), bytes(value));
    }

    /** Headers that a map cannot hold: the same key twice, null against empty values, an empty key. */
    private void writeHeaders(Admin admin, String topic) throws Exception {
        create(admin, topic, 1, Map.of("retention.ms", "-1"));
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 40; i++) {
                var record = record(topic, 0, EPOCH + i * 1000L, "key-" + i, "value-" + i);
                record.headers().add("trace", bytes("first-" + i)).add("trace", bytes("second-" + i)).add("trace", null);
                if (i % 2 == 0) record.headers().add("empty", new byte[0]).add("", bytes("a key without letters"));
                if (i % 5 == 0) record.headers().add("schlüssel", new byte[] {0, -1, 127, -128});
                producer.send(record);
            }
            var bare = record(topic, 0, EPOCH + 40_000L, "bare", "no headers");
            producer.send(bare);
        }
    }

    private void writeKeys(Admin admin, String topic) throws Exception {
        create(admin, topic, 3, Map.of("retention.ms", "-1", "max.message.bytes", "2000000"));
        String[] keys = {null, "", "a", "b", "ключ"};
        String[] values = {"value", null, "", "0"};
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            for (int i = 0; i < 300; i++) {
                String value = values[(i / 3) % values.length];
                producer.send(record(topic, i % 3, EPOCH + i * 1000L, keys[(i / 3) % keys.length],
                    "value".equals(value) ? "value-" + i : value));
            }
            producer.send(record(topic, 2, EPOCH + 300_000L, "large", "x".repeat(900_000)));
        }
    }

    private void writeCodec(Admin admin, String topic, String codec) throws Exception {
        create(admin, topic, 2, Map.of("retention.ms", "-1"));
        try (var producer = producer(Map.of("compression.type", codec))) {
            for (int i = 0; i < 800; i++) {
                var record = record(topic, i % 2, EPOCH + i * 100L, "key-" + i % 17, "{\"number\": " + i + ", \"codec\": \"" + codec + "\"}");
                record.headers().add("codec", bytes(codec));
                producer.send(record);
                if (i % 200 == 199) producer.flush();
            }
        }
    }

    /** Plain, committed and aborted records in turn: the aborted ones and every marker must stay behind. */
    private void writeTransactions(Admin admin, String topic) throws Exception {
        create(admin, topic, 1, Map.of("retention.ms", "-1"));
        try (var plain = producer(Map.of());
             var transactional = producer(Map.of("transactional.id", "data-" + topic, "compression.type", "zstd"))) {
            transactional.initTransactions();
            long time = EPOCH;
            for (int round = 0; round < 4; round++) {
                for (int i = 0; i < 5; i++) plain.send(record(topic, 0, time++, "plain", round + "/" + i));
                plain.flush();
                transactional.beginTransaction();
                for (int i = 0; i < 10; i++)
                    transactional.send(record(topic, 0, time++, round % 2 == 0 ? "committed" : "aborted", round + "/" + i));
                transactional.flush();
                // Records of others lie inside the transaction, as they do on a busy topic.
                plain.send(record(topic, 0, time++, "inside", String.valueOf(round))).get();
                if (round % 2 == 0) transactional.commitTransaction();
                else transactional.abortTransaction();
            }
            plain.send(record(topic, 0, time, "last", "after the last marker")).get();
        }
    }

    private void writeAppendTime(Admin admin, String topic) throws Exception {
        create(admin, topic, 1, Map.of("retention.ms", "-1", "message.timestamp.type", "LogAppendTime"));
        try (var producer = producer(Map.of("compression.type", "gzip"))) {
            for (int i = 0; i < 60; i++) {
                producer.send(record(topic, 0, EPOCH, "key-" + i, "the broker's clock"));
                if (i % 20 == 19) producer.flush();
            }
        }
    }

    /** One record a minute over two days, but the minutes come shuffled, inside batches too. */
    private void writeOutOfOrder(Admin admin, String topic) throws Exception {
        create(admin, topic, 1, Map.of("retention.ms", "-1"));
        try (var producer = producer(Map.of())) {
            int minutes = 2880;
            for (int i = 0; i < 480; i++) {
                int minute = (i * 1009) % minutes;
                producer.send(record(topic, 0, EPOCH + minute * 60_000L, "minute", String.valueOf(minute)));
                if (i % 50 == 49) producer.flush();
            }
        }
    }

    /** The log starts inside a batch: a fetch at the log start returns records that are already deleted. */
    private void writeTrimmed(Admin admin, String topic) throws Exception {
        create(admin, topic, 1, Map.of("retention.ms", "-1"));
        try (var producer = producer(Map.of("linger.ms", 200))) {
            for (int i = 0; i < 10; i++) producer.send(record(topic, 0, EPOCH + i, "key", "value-" + i));
        }
        admin.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(4))).all().get();
    }

    private void writeCompacted(Admin admin, String topic) throws Exception {
        // A segment rolls on the time between its records, so that times an hour apart roll one per batch.
        create(admin, topic, 1, Map.of("cleanup.policy", "compact", "segment.ms", "60000",
            "min.cleanable.dirty.ratio", "0.01", "delete.retention.ms", "86400000"));
        int sent = 0;
        try (var producer = producer(Map.of())) {
            for (int round = 0; round < 12; round++) {
                for (int key = 0; key < 10; key++) {
                    // Key 9 is deleted in the end, key r is written in one round only, the others again and again.
                    if (key < 3 && round != key * 4) continue;
                    String value = key == 9 && round > 6 ? null : "round-" + round;
                    producer.send(record(topic, 0, EPOCH + round * 3_600_000L, "key-" + key, value));
                    sent++;
                }
                producer.flush();
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        try (var consumer = consumer(Map.of())) {
            while (read(consumer, partition, 0, false).size() > sent / 2) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("the cleaner made no holes in " + topic);
                Thread.sleep(100);
            }
        }
    }

    private void commitGroups(Admin admin, String prefix) throws Exception {
        // In the middle of everything that is read as it was written.
        commitGroup(admin, prefix + "checkout", List.of(
            at(prefix + "keys", 0, 37, "checkpoint=37"), at(prefix + "keys", 1, 0, ""), at(prefix + "keys", 2, 101, "at the end"),
            at(prefix + "codec-none", 0, 123, ""), at(prefix + "codec-zstd", 1, 399, "")));
        // On an aborted record (20 = the second round's first), on a marker's place, at an end, before the log start.
        commitGroup(admin, prefix + "audit", List.of(
            at(prefix + "transactions", 0, 25, "on an aborted record"), at(prefix + "append-time", 0, 60, ""),
            at(prefix + "codec-gzip", 0, 200, ""), at(prefix + "codec-gzip", 1, 1, "")));
        // In a hole of the compacted topic, and inside the batch that the log start cuts.
        commitGroup(admin, prefix + "late", List.of(
            at(prefix + "compacted", 0, 3, "in a hole"), at(prefix + "headers", 0, 0, "from the start"),
            at(prefix + "trimmed", 0, 6, ""), at(prefix + "out-of-order", 0, 240, "")));
    }

    private static Map.Entry<TopicPartition, OffsetAndMetadata> at(String topic, int partition, long offset, String metadata) {
        return Map.entry(new TopicPartition(topic, partition), new OffsetAndMetadata(offset, Optional.of(0), metadata));
    }

    private void commitGroup(Admin admin, String group, Collection<Map.Entry<TopicPartition, OffsetAndMetadata>> entries) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (var entry : entries) offsets.put(entry.getKey(), entry.getValue());
        admin.alterConsumerGroupOffsets(group, offsets).all().get();
        groups.put(group, offsets.size());
    }
}
