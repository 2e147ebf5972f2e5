// What both scripts share: a task comes as JSON on stdin, the answer goes as JSON to stdout, logs go to stderr.
"use strict";

const fs = require("node:fs");
const zlib = require("node:zlib");
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");

CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => zlib.zstdCompressSync(encoder.buffer),
  decompress: async (buffer) => zlib.zstdDecompressSync(buffer),
});

const toStderr = () => (entry) => process.stderr.write(`${JSON.stringify(entry)}\n`);

function connect(task) {
  return new Kafka({
    clientId: "kveil-tests",
    brokers: task.brokers,
    ssl: task.ca ? { ca: [fs.readFileSync(task.ca, "utf-8")] } : undefined,
    sasl: task.sasl ?? undefined,
    logLevel: logLevel.WARN,
    logCreator: toStderr,
  });
}

const fromBase64 = (text) => (text === null ? null : Buffer.from(text, "base64"));
const toBase64 = (bytes) => (bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString("base64"));
const eachValue = (object, change) =>
  Object.fromEntries(Object.entries(object ?? {}).map(([name, value]) => [name, change(value)]));

function main(work) {
  const task = JSON.parse(fs.readFileSync(0, "utf-8"));
  work(connect(task), task)
    .then((answer) => process.stdout.write(JSON.stringify(answer)))
    .catch((error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exitCode = 1;
    });
}

module.exports = { CompressionTypes, eachValue, fromBase64, main, toBase64 };
