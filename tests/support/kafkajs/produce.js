// Sends all messages of the task in one call.
"use strict";

const { CompressionTypes, eachValue, fromBase64, main } = require("./client");

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  zstd: CompressionTypes.ZSTD,
};

function asMessage(given) {
  const message = { key: fromBase64(given.key), value: fromBase64(given.value) };
  message.headers = eachValue(given.headers, fromBase64);
  if (given.partition !== null) message.partition = given.partition;
  if (given.timestamp !== null) message.timestamp = String(given.timestamp);
  return message;
}

main(async (kafka, task) => {
  const producer = kafka.producer({ idempotent: task.idempotent, allowAutoTopicCreation: false });
  await producer.connect();
  try {
    const messages = task.messages.map(asMessage);
    return await producer.send({ topic: task.topic, compression: CODECS[task.compression], messages });
  } finally {
    await producer.disconnect();
  }
});
