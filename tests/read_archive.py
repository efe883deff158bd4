#!/usr/bin/env python3
"""Reads a kbr archive of format version 1 from a folder and prints its newest generation's records.

Written from docs/archive-format.md alone, with the standard library only, to prove that the document is enough.
One line per record: topic partition offset timestamp key value [header=value,...], bytes in hexadecimal, - for null;
with --types CreateTime or LogAppendTime after the timestamp.
With --kept it prints the newest generation's groups and cluster objects instead, as one JSON document.
Every hash and checksum on the way is verified. lz4 and snappy are decoded here; zstd needs Python 3.14, the zstandard
module or the zstd command, without which a zstd block, and a zstd batch, is one line: ? topic partition first last zstd.
"""

import gzip
import json
import os
import struct
import subprocess
import sys


def fail(why):
    sys.exit(f"read_archive.py: {why}")


# ---- CRC32C (Castagnoli) ---------------------------------------------------------------------------------------

def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


# ---- BLAKE3 (plain hash, 32 bytes) -----------------------------------------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(value, words, counter, length, flags):
    s = list(value) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for round_number in range(7):
        for number, (a, b, c, d) in enumerate(MIXES):
            for word, high, low in ((words[2 * number], 16, 12), (words[2 * number + 1], 8, 7)):
                s[a] = (s[a] + s[b] + word) & 0xFFFFFFFF
                x = s[d] ^ s[a]
                s[d] = (x >> high | x << (32 - high)) & 0xFFFFFFFF
                s[c] = (s[c] + s[d]) & 0xFFFFFFFF
                x = s[b] ^ s[c]
                s[b] = (x >> low | x << (32 - low)) & 0xFFFFFFFF
        words = [words[p] for p in PERMUTATION]
    return [s[i] ^ s[i + 8] for i in range(8)]


def chunk_value(chunk, counter, flags):
    value = IV
    blocks = [chunk[at:at + 64] for at in range(0, len(chunk), 64)] or [b""]
    for number, block in enumerate(blocks):
        own = (CHUNK_START if number == 0 else 0) | (CHUNK_END | flags if number == len(blocks) - 1 else 0)
        words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
        value = compress(value, words, counter, len(block), own)
    return value


def tree_value(data, counter, flags):
    if len(data) <= 1024:
        return chunk_value(data, counter, flags)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    words = tree_value(data[:left], counter, 0) + tree_value(data[left:], counter + left // 1024, 0)
    return compress(IV, words, 0, 64, PARENT | flags)


def blake3(data):
    return struct.pack("<8I", *tree_value(data, 0, ROOT)).hex()


# ---- compression -----------------------------------------------------------------------------------------------

def lz4_block(data, out):
    at = 0

    def length(start):
        nonlocal at
        total = start
        if start == 15:
            while True:
                total += data[at]
                at += 1
                if data[at - 1] != 255:
                    break
        return total

    while at < len(data):
        token = data[at]
        at += 1
        literals = length(token >> 4)
        out += data[at:at + literals]
        at += literals
        if at >= len(data):
            break
        distance = data[at] | data[at + 1] << 8
        at += 2
        count = length(token & 15) + 4
        for _ in range(count):
            out.append(out[-distance])


def lz4_frame(data):
    if data[:4] != b"\x04\x22\x4d\x18":
        fail("not an lz4 frame")
    flags = data[4]
    at = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    out = bytearray()
    while True:
        size = struct.unpack_from("<I", data, at)[0]
        at += 4
        if size == 0:
            return bytes(out)
        piece = data[at:at + (size & 0x7FFFFFFF)]
        at += len(piece) + (4 if flags & 16 else 0)
        if size & 0x80000000:
            out += piece
        else:
            lz4_block(piece, out)


def snappy_block(data):
    cursor, length, shift = Cursor(data), 0, 0
    while True:
        byte = cursor.take(1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    out = bytearray()
    while cursor.at < len(data):
        tag = cursor.take(1)[0]
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                size = int.from_bytes(cursor.take(size - 59), "little")
            out += cursor.take(size + 1)
            continue
        if tag & 3 == 1:
            size, distance = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | cursor.take(1)[0]
        else:
            size, distance = (tag >> 2) + 1, int.from_bytes(cursor.take(2 if tag & 3 == 2 else 4), "little")
        for _ in range(size):
            out.append(out[-distance])
    if len(out) != length:
        fail("a snappy block of another length")
    return bytes(out)


def snappy(data):
    """Raw, or in the frames of Java's SnappyOutputStream."""
    if data[:8] != b"\x82SNAPPY\0":
        return snappy_block(data)
    cursor, out = Cursor(data[16:]), b""
    while cursor.at < len(cursor.data):
        out += snappy_block(cursor.take(struct.unpack(">I", cursor.take(4))[0]))
    return out


def zstd(data):
    try:
        from compression import zstd as module
        return module.decompress(data)
    except ImportError:
        pass
    try:
        import zstandard
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    except ImportError:
        pass
    try:
        return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
    except FileNotFoundError:
        raise NoZstd from None


def decompressed(codec, data):
    if codec == "none":
        return data
    if codec == "gzip":
        return gzip.decompress(data)
    if codec == "lz4":
        return lz4_frame(data)
    if codec == "zstd":
        return zstd(data)
    if codec == "snappy":
        return snappy(data)
    fail(f"{codec} is not read here")


# ---- manifests -------------------------------------------------------------------------------------------------

def unseal(path, data):
    start, middle, end = b'{"blake3":"', b'","body":', b"}\n"
    body = data[len(start) + 64 + len(middle):-len(end)]
    written = data[len(start):len(start) + 64]
    if data != start + written + middle + body + end:
        fail(f"{path}: not sealed")
    if blake3(body).encode() != written:
        fail(f"{path}: its hash is wrong")
    return json.loads(body)


class NoZstd(Exception):
    """There is no zstd module."""


class Archive:
    def __init__(self, folder):
        self.folder = folder
        self.head = unseal("archive.json", self.read("archive.json"))
        if self.head["format_version"] != 1:
            fail("another format version")

    def read(self, path):
        with open(os.path.join(self.folder, path), "rb") as file:
            return file.read()

    def generation(self, number, expected=None):
        """One generation and the hash of its object."""
        path = f"generations/{number:08}.json"
        data = self.read(path)
        digest = blake3(data)
        if expected is not None and digest != expected:
            fail(f"{path}: the chain is broken")
        generation = unseal(path, data)
        if generation["number"] != number or generation["archive_id"] != self.head["archive_id"]:
            fail(f"{path}: another generation")
        return generation

    def retention(self, numbers):
        """What was pruned: the newest generation carries it, or leads to it."""
        newest = self.generation(numbers[-1])
        if "retention_at" in newest:
            at = newest["retention_at"]
            newest = self.generation(at["generation"], at["digest"])
        return newest.get("retention", {})

    def chain(self):
        """The newest recovery point and its parents back to a checkpoint, oldest first; and what was pruned."""
        names = sorted(os.listdir(os.path.join(self.folder, "generations")))
        numbers = [int(name[:8]) for name in names if name.endswith(".json")]
        retention = self.retention(numbers)

        def is_in(field, number):
            return any(span["first"] <= number <= span["last"] for span in retention.get(field, []))

        gone = [number for number in range(1, numbers[-1] + 1) if is_in("gone", number)]
        if sorted(set(numbers) | set(gone)) != list(range(1, numbers[-1] + 1)):
            fail("generations: one is missing")
        anchors = {anchor["number"]: anchor["digest"] for anchor in retention.get("anchors", [])}
        hidden = set(gone) | set(retention.get("commits", []))
        for marked in retention.get("rounds", []):
            hidden |= set(marked["generations"])
        points = [number for number in numbers if number not in hidden and not is_in("deleted", number)]
        found, expected = [], None
        for number in range(points[-1], 0, -1):
            generation = self.generation(number, expected)
            self.generation(number, anchors.get(number))
            found.insert(0, generation)
            if generation["checkpoint"]:
                break
            expected = generation["parent"]
        return found, retention

    def kept(self):
        """What the newest generation keeps besides records; it may lie in objects of an earlier one."""
        generations, _ = self.chain()
        newest, found = generations[-1], {}
        for name in ("groups", "cluster"):
            reference = newest.get(name)
            if reference is not None:
                data = self.read(reference["path"])
                if len(data) != reference["size"] or blake3(data) != reference["digest"]:
                    fail(f"{reference['path']}: not what the generation names")
                found[name] = unseal(reference["path"], data)
        return found

    @staticmethod
    def cut(entry, before):
        """Leaves out what lies below the floor, as far as whole segments and countable gaps allow."""
        at = min(before, entry["to"])
        gaps = [gap for gap in entry["gaps"] if gap["kind"] != "pending" and gap["to"] - gap["from"] != gap["offsets"]]
        while True:
            lower = [s["first"] for s in entry["segments"] if s["first"] < at <= s["last"]]
            lower += [gap["from"] for gap in gaps if gap["from"] < at < gap["to"]]
            if not lower:
                break
            at = min(lower)
        if at > entry["from"]:
            entry["from"] = at
            entry["segments"] = [segment for segment in entry["segments"] if segment["first"] >= at]

    def partitions(self):
        """Current topics: {(topic, partition): (topic id, [segments])}."""
        topics = {}
        generations, retention = self.chain()
        for generation in generations:
            if generation["checkpoint"]:
                topics = {}
            for topic in generation["topics"]:
                key = (topic["name"], topic["incarnation"])
                known = topics.setdefault(key, {"id": topic["id"], "partitions": {}})
                known["removed"] = topic["removed"]
                for new in topic["partitions"]:
                    old = known["partitions"].get(new["partition"])
                    if old is None or new["replaces"]:
                        old = known["partitions"][new["partition"]] = {
                            "from": new["from"], "to": new["from"], "segments": [], "gaps": []}
                    if old["to"] != new["from"]:
                        fail(f"{topic['name']}-{new['partition']}: a hole in the chain")
                    old["to"] = new["to"]
                    old["segments"] += new["segments"]
                    old["gaps"] += new["gaps"]
        for floor in retention.get("floors", []):
            known = topics.get((floor["topic"], floor["incarnation"]), {"id": None})
            if known["id"] == floor["id"]:
                for partition in floor["partitions"]:
                    if partition["partition"] in known["partitions"]:
                        self.cut(known["partitions"][partition["partition"]], partition["before"])
        current = {}
        for (name, _), topic in sorted(topics.items()):
            current.pop(name, None)
            if not topic["removed"]:
                current[name] = topic
        for name, topic in sorted(current.items()):
            for partition, entry in sorted(topic["partitions"].items()):
                yield name, bytes.fromhex(topic["id"].replace("-", "")), partition, entry["segments"]


# ---- segments --------------------------------------------------------------------------------------------------

def index_of(path, data, listed, archive_id):
    """Verifies header, trailer and index and yields (topic, topic id, partition, block)."""
    magic, version, encryption, _, owner = struct.unpack_from(">8sHHI16s", data, 0)
    if magic != b"KBRSEG\r\n" or version != 1 or encryption != 0 or owner.hex() != archive_id.replace("-", ""):
        fail(f"{path}: not a segment of this archive")
    if crc32c(data[:60]) != struct.unpack_from(">I", data, 60)[0]:
        fail(f"{path}: its header is broken")
    position, length, crc, version, encryption, own_crc, magic = struct.unpack(">QIIHHI8s", data[-32:])
    if magic != b"KBRSEND\n" or crc32c(data[-32:-12]) != own_crc or version != 1 or encryption != 0:
        fail(f"{path}: its trailer is broken")
    index = data[position:position + length]
    if position + length + 32 != len(data) or crc32c(index) != crc or blake3(index) != listed["index_digest"]:
        fail(f"{path}: its index is broken")
    streams, at = [], 4
    for _ in range(struct.unpack_from(">I", index, 0)[0]):
        size = struct.unpack_from(">H", index, at)[0]
        topic = index[at + 2:at + 2 + size].decode()
        topic_id, partition = struct.unpack_from(">16si", index, at + 2 + size)
        streams.append((topic, topic_id, partition))
        at += 2 + size + 20
    count = struct.unpack_from(">I", index, at)[0]
    at += 4
    names = ("stream codec flags reserved batches first last min_timestamp max_timestamp records position stored_len "
             "raw_len crc largest_batch").split()
    for _ in range(count):
        block = dict(zip(names, struct.unpack_from(">IBBHIqqqqQQIIII", index, at)))
        at += 76
        yield (*streams[block["stream"]], block)
    if at != len(index):
        fail(f"{path}: bytes behind its index")


# ---- Kafka record batches (magic 2) ----------------------------------------------------------------------------

class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        return self.data[self.at - length:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return (value >> 1) ^ -(value & 1)

    def nullable(self):
        length = self.varint()
        return None if length < 0 else self.take(length)


def records(raw):
    at = 0
    while at < len(raw):
        (base, length, _, magic, crc, attributes, last, first_time, max_time, _, _, _, count) = struct.unpack_from(
            ">qiibIhiqqqhii", raw, at)
        batch = raw[at:at + 12 + length]
        at += 12 + length
        if magic != 2 or crc32c(batch[21:]) != crc:
            fail(f"the batch at offset {base} is broken")
        codec = ("none", "gzip", "snappy", "lz4", "zstd")[attributes & 7]
        try:
            body = Cursor(decompressed(codec, batch[61:]))
        except NoZstd:
            yield base, None, base + last
            continue
        for _ in range(count):
            body.varint()
            body.take(1)
            timestamp = first_time + body.varint()
            offset = base + body.varint()
            key, value = body.nullable(), body.nullable()
            headers = [(body.take(body.varint()), body.nullable()) for _ in range(body.varint())]
            yield offset, (max_time, "LogAppendTime") if attributes & 8 else (timestamp, "CreateTime"), (key, value, headers)


def shown(data):
    return "-" if data is None else data.hex()


def main(folder, types, kept):
    archive = Archive(folder)
    if kept:
        print(json.dumps(archive.kept()))
        return
    for topic, topic_id, partition, segments in archive.partitions():
        for listed in segments:
            data = archive.read(listed["path"])
            if len(data) != listed["size"] or blake3(data) != listed["digest"]:
                fail(f"{listed['path']}: not what the generation lists")
            for *stream, block in index_of(listed["path"], data, listed, archive.head["archive_id"]):
                if stream != [topic, topic_id, partition]:
                    continue
                stored = data[block["position"]:block["position"] + block["stored_len"]]
                if crc32c(stored) != block["crc"]:
                    fail(f"{listed['path']}: the block at {block['position']} is broken")
                try:
                    raw = decompressed(("none", "zstd", "lz4")[block["codec"]], stored)
                except NoZstd:
                    print("?", topic, partition, block["first"], block["last"], "zstd")
                    continue
                if len(raw) != block["raw_len"]:
                    fail(f"{listed['path']}: the block at {block['position']} has another length")
                for offset, time, content in records(raw):
                    if time is None:
                        print("?", topic, partition, offset, content, "zstd")
                    elif block["first"] <= offset <= block["last"]:
                        key, value, headers = content
                        text = ",".join(f"{shown(name)}={shown(inside)}" for name, inside in headers)
                        print(topic, partition, offset, *time[:1 + types], shown(key), shown(value), f"[{text}]")


if __name__ == "__main__":
    main(sys.argv[1], "--types" in sys.argv[2:], "--kept" in sys.argv[2:])
