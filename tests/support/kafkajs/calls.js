// A line for each call: its name, and what came of it.
"use strict";

const { main } = require("./client");

main(async (kafka, { topic }) => {
  const said = [];
  const call = async (what, body) => {
    try {
      said.push(`${what}: ${JSON.stringify((await body()) ?? null)}`);
    } catch (error) {
      said.push(`${what} failed: ${error.name} ${error.type ?? error.message}`);
    }
  };
  const admin = kafka.admin();
  await admin.connect();
  const wanted = { topic, numPartitions: 2, configEntries: [{ name: "retention.ms", value: "99999999999999" }] };
  await call("create", () => admin.createTopics({ topics: [wanted], waitForLeaders: true }));
  await call("create again", () => admin.createTopics({ topics: [wanted] }));
  await call("create badly", () => admin.createTopics({ topics: [{ topic: "not a name" }] }));
  await call("fewer partitions", () => admin.createPartitions({ topicPartitions: [{ topic, count: 1 }] }));
  await call("describe", () => admin.fetchTopicMetadata({ topics: [topic] }));
  await call("settings", async () => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] });
    return resources[0].configEntries.map(({ configName, configValue }) => `${configName}=${configValue}`).sort();
  });

  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  const messages = [...Array(10).keys()].map((n) => ({ value: `v${n}`, partition: n % 2, timestamp: String(1.7e12 + n) }));
  await call("send", async () => {
    const answers = await producer.send({ topic, messages });
    return answers.map(({ partition, errorCode, baseOffset }) => [partition, errorCode, baseOffset]).sort();
  });
  const random = require("node:crypto").randomBytes(2_000_000);
  await call("too large", () => producer.send({ topic, messages: [{ value: random, partition: 0 }] }));
  await producer.disconnect();
  await call("offsets", async () => (await admin.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition));

  const transactional = () => kafka.producer({ transactionalId: topic, maxInFlightRequests: 1, idempotent: true });
  const first = transactional();
  await first.connect();
  const one = [{ value: "in a transaction", partition: 0 }];
  for (const end of ["commit", "abort"]) {
    const transaction = await first.transaction();
    await call(`send to ${end}`, () => transaction.send({ topic, messages: one }).then(([{ baseOffset }]) => baseOffset));
    await call(end, () => transaction[end]());
  }
  const open = await first.transaction();
  await call("send to an open one", () => open.send({ topic, messages: one }).then(([{ baseOffset }]) => baseOffset));
  const second = transactional();
  await second.connect();
  const winner = await second.transaction();
  await call("fenced send", () => open.send({ topic, messages: one }));
  await call("fenced commit", () => open.commit());
  await call("the second", () => winner.send({ topic, messages: one }).then(([{ baseOffset }]) => baseOffset));
  await call("its commit", () => winner.commit());
  await first.disconnect();
  await second.disconnect();

  const consumer = kafka.consumer({ groupId: topic });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const seen = [];
  await new Promise((resolve) => {
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        seen.push(`${partition} ${message.offset} ${message.value}`);
        if (seen.length === 12) resolve(); // ten, what was committed, and the second's
      },
    });
  });
  said.push(`seen: ${seen.sort().join(", ")}`);
  await call("described", async () => {
    const { groups } = await admin.describeGroups([topic]);
    return groups.map(({ errorCode, protocol, state, members }) => [errorCode, protocol, state, members.length]);
  });
  await call("delete a group in use", () => admin.deleteGroups([topic]));
  await consumer.disconnect();
  await call("delete it", () => admin.deleteGroups([topic]));
  await call("delete records", () =>
    admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "2" }] }),
  );
  await call("offsets", async () => (await admin.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition));
  await call("delete", () => admin.deleteTopics({ topics: [topic] }));
  await admin.disconnect();
  return said;
});
