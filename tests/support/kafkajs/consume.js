// Reads from the beginning as a group until it has as many messages as the task wants.
"use strict";

const { eachValue, main, toBase64 } = require("./client");

const asAnswer = (partition, message) => ({
  key: toBase64(message.key),
  value: toBase64(message.value),
  headers: eachValue(message.headers, toBase64),
  partition,
  offset: Number(message.offset),
  timestamp: Number(message.timestamp),
});

main(async (kafka, task) => {
  const consumer = kafka.consumer({ groupId: task.group, maxWaitTimeInMs: 500 });
  const found = [];
  await consumer.connect();
  try {
    await consumer.subscribe({ topics: [task.topic], fromBeginning: true });
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      const eachMessage = async ({ partition, message }) => {
        if (found.length < task.count) found.push(asAnswer(partition, message));
        if (found.length >= task.count) resolve();
      };
      consumer.run({ eachMessage }).catch(reject);
    });
    return found;
  } finally {
    await consumer.disconnect();
  }
});
