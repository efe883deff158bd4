// A Java client that stays: commands as JSON lines on standard input, one line of answer each, until the input ends.
// It saves the tests of backup a Java process per question, and keeps what must stay open between two runs of kbr:
// transactions, producers that write in the background. What it reads back (`dump`) is the truth that kbr's archives
// are compared with: a read_committed consumer's view, every field.
//
// `Session.java` is run by Helper: scripts/kafka helper session --bootstrap ADDRESS

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.zip.CRC32;
import java.util.zip.GZIPOutputStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

final class Session implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(90);

    private final String bootstrap;
    private final Admin admin;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final Map<String, Writer> writers = new HashMap<>();

    Session(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", 60_000));
    }

    void run() throws Exception {
        System.out.println("{\"ready\":true}");
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Map<String, Object> answer;
            try {
                answer = answer(JSON.readTree(line));
            } catch (Exception failure) {
                answer = new LinkedHashMap<>(Map.of("error", String.valueOf(failure)));
            }
            System.out.println(JSON.writeValueAsString(answer));
        }
    }

    @Override
    public void close() {
        writers.values().forEach(Writer::interrupt);
        producers.values().forEach(producer -> producer.close(Duration.ZERO));
        admin.close(Duration.ofSeconds(1));
    }

    private Map<String, Object> answer(JsonNode wanted) throws Exception {
        return switch (wanted.get("do").asText()) {
            case "create" -> create(wanted);
            case "delete" -> delete(wanted);
            case "partitions" -> partitions(wanted);
            case "configure" -> configure(wanted);
            case "configs" -> configs(wanted);
            case "quota" -> quota(wanted);
            case "write" -> write(wanted);
            case "write_on" -> writeOn(wanted);
            case "write_off" -> writeOff(wanted);
            case "begin" -> begin(wanted);
            case "commit" -> end(wanted, true);
            case "abort" -> end(wanted, false);
            case "abandon" -> abandon(wanted);
            case "trim" -> trim(wanted);
            case "lead" -> lead(wanted);
            case "elect" -> elect(wanted);
            case "describe" -> describe(wanted);
            case "ends" -> ends(wanted);
            case "offsets" -> offsets(wanted);
            case "goes_on" -> goesOn(wanted);
            case "dump" -> dump(wanted);
            case "legacy" -> legacy(wanted);
            default -> throw new IllegalArgumentException("no command " + wanted);
        };
    }

    // -------------------------------------------------------------------------------------------- topics

    private static Map<String, String> texts(JsonNode node) {
        Map<String, String> found = new HashMap<>();
        for (var entry : node.properties()) found.put(entry.getKey(), entry.getValue().asText());
        return found;
    }

    private Map<String, Object> create(JsonNode wanted) throws Exception {
        String name = wanted.get("topic").asText();
        NewTopic topic;
        if (wanted.has("assignment")) {
            Map<Integer, List<Integer>> replicas = new HashMap<>();
            for (JsonNode partition : wanted.get("assignment")) replicas.put(replicas.size(), numbers(partition));
            topic = new NewTopic(name, replicas);
        } else {
            topic = new NewTopic(name, wanted.path("partitions").asInt(1), (short) wanted.path("replicas").asInt(1));
        }
        topic.configs(texts(wanted.path("configs")));
        var made = admin.createTopics(List.of(topic));
        made.all().get();
        return Map.of("id", made.topicId(name).get().toString());
    }

    private static List<Integer> numbers(JsonNode list) {
        List<Integer> found = new ArrayList<>();
        for (JsonNode one : list) found.add(one.asInt());
        return found;
    }

    private Map<String, Object> delete(JsonNode wanted) throws Exception {
        admin.deleteTopics(List.of(wanted.get("topic").asText())).all().get();
        return Map.of();
    }

    private Map<String, Object> partitions(JsonNode wanted) throws Exception {
        admin.createPartitions(Map.of(wanted.get("topic").asText(), NewPartitions.increaseTo(wanted.get("partitions").asInt()))).all().get();
        return Map.of();
    }

    private Map<String, Object> configure(JsonNode wanted) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, wanted.get("topic").asText());
        Collection<AlterConfigOp> changes = new ArrayList<>();
        for (var entry : wanted.get("configs").properties())
            changes.add(new AlterConfigOp(new ConfigEntry(entry.getKey(), entry.getValue().asText()),
                entry.getValue().isNull() ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
        return Map.of();
    }

    /** What is set for a topic itself. */
    private Map<String, Object> configs(JsonNode wanted) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, wanted.get("topic").asText());
        Map<String, Object> found = new TreeMap<>();
        for (ConfigEntry entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries())
            if (entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG) found.put(entry.name(), entry.value());
        return Map.of("configs", found);
    }

    /** The rate at which brokers let a client of this name read; null: as fast as it likes. */
    private Map<String, Object> quota(JsonNode wanted) throws Exception {
        var entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, wanted.get("client").asText()));
        Double rate = wanted.get("rate").isNull() ? null : wanted.get("rate").asDouble();
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("consumer_byte_rate", rate))))).all().get();
        return Map.of();
    }

    private static TopicPartition at(JsonNode wanted) {
        return new TopicPartition(wanted.get("topic").asText(), wanted.path("partition").asInt(0));
    }

    private Map<String, Object> trim(JsonNode wanted) throws Exception {
        admin.deleteRecords(Map.of(at(wanted), RecordsToDelete.beforeOffset(wanted.get("before").asLong()))).all().get();
        return Map.of();
    }

    /** Makes a broker lead a partition: it comes first among the replicas and is elected. */
    private Map<String, Object> lead(JsonNode wanted) throws Exception {
        TopicPartition at = at(wanted);
        int leader = wanted.get("leader").asInt();
        List<Integer> order = new ArrayList<>(List.of(leader));
        TopicPartitionInfo now = info(at);
        now.replicas().forEach(node -> { if (node.id() != leader) order.add(node.id()); });
        admin.alterPartitionReassignments(Map.of(at, Optional.of(new NewPartitionReassignment(order)))).all().get();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (info(at).leader() == null || info(at).leader().id() != leader) {
            if (System.nanoTime() > deadline) throw new IllegalStateException(at + " is not led by " + leader);
            try {
                admin.electLeaders(ElectionType.PREFERRED, Set.of(at)).all().get();
            } catch (java.util.concurrent.ExecutionException notNow) {
                Thread.sleep(50);
            }
        }
        return Map.of();
    }

    private Map<String, Object> elect(JsonNode wanted) throws Exception {
        ElectionType type = wanted.get("type").asText().equals("unclean") ? ElectionType.UNCLEAN : ElectionType.PREFERRED;
        String topic = wanted.get("topic").asText();
        Set<TopicPartition> all = new java.util.HashSet<>();
        for (TopicPartitionInfo one : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions())
            all.add(new TopicPartition(topic, one.partition()));
        var done = admin.electLeaders(type, all).partitions().get();
        Map<String, Object> failures = new TreeMap<>();
        done.forEach((partition, error) -> error.ifPresent(why -> failures.put(partition.toString(), why.toString())));
        return Map.of("not", failures);
    }

    private TopicPartitionInfo info(TopicPartition at) throws Exception {
        return admin.describeTopics(List.of(at.topic())).allTopicNames().get().get(at.topic()).partitions().get(at.partition());
    }

    private Map<String, Object> describe(JsonNode wanted) throws Exception {
        String topic = wanted.get("topic").asText();
        List<Object> found = new ArrayList<>();
        for (TopicPartitionInfo one : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
            found.add(Map.of("leader", one.leader() == null ? -1 : one.leader().id(),
                "replicas", one.replicas().stream().map(node -> node.id()).toList(),
                "isr", one.isr().stream().map(node -> node.id()).sorted().toList()));
        }
        return Map.of("partitions", found);
    }

    // ------------------------------------------------------------------------------------------- writing

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "linger.ms", 5, "delivery.timeout.ms", 90_000,
            "max.request.size", 64 << 20, "buffer.memory", 96L << 20));
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /**
     * Records that differ from each other in every field. `size`: bytes of a value that do not compress, null: short
     * texts. `keys`: how many different keys there are. `flush`: a batch ends after so many. `tombstones`: every so
     * many-th value is null. `time` and `step`: timestamps; `shuffle` scatters them. `by_key`: the producer's own
     * partitioner chooses the partition.
     */
    private static ProducerRecord<byte[], byte[]> record(JsonNode wanted, String topic, int partition, long number) {
        long time = wanted.path("time").asLong(1_748_736_000_000L);
        long step = wanted.path("step").asLong(1);
        long tick = wanted.path("shuffle").asBoolean() ? (number * 7919) % 10_007 : number;
        int keys = wanted.path("keys").asInt(0);
        byte[] key = keys > 0 ? bytes("key-" + number % keys) : number % 4 == 0 ? null : bytes("key-" + number);
        if (wanted.has("key")) key = bytes(wanted.get("key").asText());
        int tombstones = wanted.path("tombstones").asInt(0);
        byte[] value;
        if (tombstones > 0 && number % tombstones == tombstones - 1) {
            value = null;
        } else if (wanted.has("size")) {
            value = new byte[wanted.get("size").asInt()];
            new Random(number * 31 + partition).nextBytes(value);
        } else {
            value = bytes(wanted.path("text").asText("value") + " " + partition + "/" + number);
        }
        Integer chosen = wanted.path("by_key").asBoolean() ? null : partition;
        var record = new ProducerRecord<>(topic, chosen, time + tick * step, key, value);
        if (wanted.path("headers").asBoolean()) {
            record.headers().add("trace", bytes("first-" + number)).add("trace", bytes("second-" + number)).add("trace", null);
            if (number % 2 == 0) record.headers().add("empty", new byte[0]).add("", bytes("a key without letters"));
        }
        return record;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private Map<String, Object> write(JsonNode wanted) throws Exception {
        String topic = wanted.get("topic").asText();
        int count = wanted.get("count").asInt();
        int partitions = wanted.path("partitions").asInt(1);
        int first = wanted.path("partition").asInt(0);
        long from = wanted.path("from").asLong(0);
        int flush = wanted.path("flush").asInt(Integer.MAX_VALUE);
        var transaction = wanted.path("id").asText(null);
        Map<String, Object> more = new HashMap<>(texts(wanted.path("producer")));
        // A batch ends where `flush` says, not when it happens to be sent.
        if (flush != Integer.MAX_VALUE) more.putIfAbsent("linger.ms", "5000");
        var producer = transaction == null ? producer(more) : producers.get(transaction);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try {
            for (int i = 0; i < count; i++) {
                for (int partition = first; partition < first + partitions; partition++)
                    sent.add(producer.send(record(wanted, topic, partition, from + i)));
                if (i % flush == flush - 1) producer.flush();
            }
            producer.flush();
            for (var one : sent) one.get();
        } finally {
            if (transaction == null) producer.close(PATIENCE);
        }
        return sent.isEmpty() ? Map.of() : Map.of("last", sent.get(sent.size() - 1).get().offset());
    }

    /** Writes to all partitions of a topic until it is told to stop; an idempotent producer: nothing twice. */
    private final class Writer extends Thread {
        private final JsonNode wanted;
        final AtomicLong written = new AtomicLong();
        volatile boolean on = true;
        volatile Exception failure;

        Writer(JsonNode wanted) {
            this.wanted = wanted;
            setDaemon(true);
        }

        @Override
        public void run() {
            String topic = wanted.get("topic").asText();
            int partitions = wanted.path("partitions").asInt(1);
            long pause = wanted.path("pause").asLong(1);
            try (var producer = producer(new HashMap<>(texts(wanted.path("producer"))))) {
                for (long number = wanted.path("from").asLong(0); on; number++) {
                    int partition = (int) (number % partitions);
                    producer.send(record(wanted, topic, partition, number), (done, error) -> {
                        if (error == null) written.incrementAndGet();
                        else failure = error;
                    });
                    if (pause > 0) Thread.sleep(pause);
                }
            } catch (Exception error) {
                failure = error;
            }
        }
    }

    private Map<String, Object> writeOn(JsonNode wanted) {
        var writer = new Writer(wanted);
        writers.put(wanted.get("topic").asText(), writer);
        writer.start();
        return Map.of();
    }

    private Map<String, Object> writeOff(JsonNode wanted) throws Exception {
        var writer = writers.remove(wanted.get("topic").asText());
        writer.on = false;
        writer.join(PATIENCE.toMillis());
        if (writer.failure != null) throw writer.failure;
        return Map.of("written", writer.written.get());
    }

    // -------------------------------------------------------------------------------------- transactions

    private Map<String, Object> begin(JsonNode wanted) {
        String id = wanted.get("id").asText();
        var producer = producers.get(id);
        if (producer == null) {
            Map<String, Object> config = new HashMap<>(texts(wanted.path("producer")));
            config.put("transactional.id", id);
            config.put("transaction.timeout.ms", wanted.path("timeout").asInt(600_000));
            producer = producer(config);
            producer.initTransactions();
            producers.put(id, producer);
        }
        producer.beginTransaction();
        return Map.of();
    }

    private Map<String, Object> end(JsonNode wanted, boolean commit) {
        var producer = producers.get(wanted.get("id").asText());
        if (commit) producer.commitTransaction();
        else producer.abortTransaction();
        return Map.of();
    }

    /** The producer is gone without a word; its transaction stays open until its timeout. */
    private Map<String, Object> abandon(JsonNode wanted) {
        producers.remove(wanted.get("id").asText()).close(Duration.ZERO);
        return Map.of();
    }

    private Map<String, Object> offsets(JsonNode wanted) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (var entry : wanted.get("offsets").properties()) {
            int colon = entry.getKey().lastIndexOf(':');
            var at = new TopicPartition(entry.getKey().substring(0, colon), Integer.parseInt(entry.getKey().substring(colon + 1)));
            Optional<Integer> epoch = wanted.has("epoch") ? Optional.of(wanted.get("epoch").asInt()) : Optional.empty();
            offsets.put(at, new OffsetAndMetadata(entry.getValue().asLong(), epoch, wanted.path("metadata").asText("")));
        }
        String group = wanted.get("group").asText();
        if (wanted.has("id")) {
            // As part of the transaction that this producer has begun.
            producers.get(wanted.get("id").asText()).sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata(group));
        } else {
            admin.alterConsumerGroupOffsets(group, offsets).all().get();
        }
        return Map.of();
    }

    // ------------------------------------------------------------------------------------------- reading

    private KafkaConsumer<byte[], byte[]> consumer(String isolation) {
        return new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap, "isolation.level", isolation,
            "enable.auto.commit", false, "auto.offset.reset", "none", "max.partition.fetch.bytes", 8 << 20,
            "default.api.timeout.ms", 60_000), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A member of a group that reads a topic: the first record that it gets of each partition, of so many of them. */
    private Map<String, Object> goesOn(JsonNode wanted) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", wanted.get("group").asText(),
            "isolation.level", "read_committed", "enable.auto.commit", false, "auto.offset.reset", "none"));
        if (wanted.has("protocol")) config.put("group.protocol", wanted.get("protocol").asText());
        Map<String, Object> first = new HashMap<>();
        int partitions = wanted.get("partitions").asInt();
        long until = System.nanoTime() + PATIENCE.toNanos();
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(wanted.get("topic").asText()));
            while (first.size() < partitions && System.nanoTime() < until) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200)))
                    first.putIfAbsent(String.valueOf(record.partition()), record.offset());
            }
        }
        return Map.of("first", first);
    }

    /** Log start, last stable offset and high watermark of each partition. */
    private Map<String, Object> ends(JsonNode wanted) throws Exception {
        String topic = wanted.get("topic").asText();
        List<Object> found = new ArrayList<>();
        try (var committed = consumer("read_committed"); var all = consumer("read_uncommitted")) {
            for (TopicPartition at : partitionsOf(all, topic)) {
                found.add(Map.of("start", all.beginningOffsets(List.of(at), PATIENCE).get(at),
                    "stable", committed.endOffsets(List.of(at), PATIENCE).get(at),
                    "end", all.endOffsets(List.of(at), PATIENCE).get(at)));
            }
        }
        return Map.of("partitions", found);
    }

    private static List<TopicPartition> partitionsOf(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        Set<Integer> ids = new TreeSet<>();
        for (PartitionInfo info : consumer.partitionsFor(topic, PATIENCE)) ids.add(info.partition());
        return ids.stream().map(id -> new TopicPartition(topic, id)).toList();
    }

    /** Every record of the topics that a read_committed consumer sees, as JSON lines into a file. */
    private Map<String, Object> dump(JsonNode wanted) throws Exception {
        long count = 0;
        try (var consumer = consumer("read_committed");
             var out = new PrintWriter(Files.newBufferedWriter(Path.of(wanted.get("file").asText())))) {
            for (JsonNode topic : wanted.get("topics")) {
                for (TopicPartition at : partitionsOf(consumer, topic.asText())) {
                    consumer.assign(List.of(at));
                    long end = consumer.endOffsets(List.of(at), PATIENCE).get(at);
                    consumer.seekToBeginning(List.of(at));
                    long deadline = System.nanoTime() + PATIENCE.toNanos();
                    while (consumer.position(at, PATIENCE) < end) {
                        if (System.nanoTime() > deadline) throw new IllegalStateException(at + " was not read to " + end);
                        for (var record : consumer.poll(Duration.ofMillis(100)).records(at)) {
                            out.println(JSON.writeValueAsString(line(record)));
                            count++;
                        }
                    }
                }
            }
        }
        return Map.of("records", count);
    }

    private static Map<String, Object> line(ConsumerRecord<byte[], byte[]> record) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("topic", record.topic());
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

    // --------------------------------------------------------------------------------- old message formats

    /**
     * A log segment as brokers before 0.11 wrote it: messages of format 0 and 1, plain or gzipped into wrappers. Byte by
     * byte, since Kafka's own writer of them has no public place: offset, size, CRC, magic, attributes, [time,] key, value.
     */
    private Map<String, Object> legacy(JsonNode wanted) throws Exception {
        long offset = 0;
        var log = new ByteArrayOutputStream();
        for (JsonNode set : wanted.get("sets")) {
            int magic = set.get("magic").asInt();
            boolean wrapped = set.path("gzip").asBoolean();
            int appendTime = set.path("append_time").asBoolean() ? 8 : 0;
            int count = set.get("count").asInt();
            var inner = new ByteArrayOutputStream();
            for (int i = 0; i < count; i++, offset++) {
                byte[] key = offset % 3 == 0 ? null : bytes("old-" + offset);
                byte[] value = offset % 5 == 4 ? null : bytes("format " + magic + " number " + offset);
                // Inside a wrapper of format 1 offsets count from 0, in one of format 0 they are the log's.
                long place = wrapped && magic == 1 ? i : offset;
                inner.write(message(place, magic, wrapped ? 0 : appendTime, 1_300_000_000_000L + offset, key, value));
            }
            if (wrapped) {
                var zipped = new ByteArrayOutputStream();
                try (var gzip = new GZIPOutputStream(zipped)) {
                    inner.writeTo(gzip);
                }
                log.write(message(offset - 1, magic, 1 | appendTime, 1_300_000_000_000L + offset - 1, null, zipped.toByteArray()));
            } else {
                inner.writeTo(log);
            }
        }
        Files.write(Path.of(wanted.get("file").asText()), log.toByteArray());
        return Map.of("next", offset);
    }

    private static byte[] message(long offset, int magic, int attributes, long time, byte[] key, byte[] value) {
        int size = 4 + 1 + 1 + (magic == 1 ? 8 : 0) + 4 + (key == null ? 0 : key.length) + 4 + (value == null ? 0 : value.length);
        ByteBuffer out = ByteBuffer.allocate(12 + size);
        out.putLong(offset).putInt(size).putInt(0).put((byte) magic).put((byte) attributes);
        if (magic == 1) out.putLong(time);
        for (byte[] part : Arrays.asList(key, value)) {
            out.putInt(part == null ? -1 : part.length);
            if (part != null) out.put(part);
        }
        CRC32 crc = new CRC32();
        crc.update(out.array(), 16, out.capacity() - 16);
        return out.putInt(12, (int) crc.getValue()).array();
    }
}
