// Writes and reads with ioredis's clients, as the library comes, and says what became of each write: node failover.js CLIENT…
//
// A client is NAME=KIND@HOST:PORT,HOST:PORT,… with kind `plain` (the first address is its server), `sentinel` or `cluster`. Each writes a
// key of its own after the other and reads it again, until standard input ends. A line of output for each, with moments of the monotonic
// clock in microseconds: NAME, called, returned, then `ok KEY`, `wrong KEY`, or `error TEXT`.

"use strict";
const Redis = require("ioredis");

// An application's pause between two writes, and the one after an error.
const GAP_MS = 5;
const AGAIN_MS = 20;

let ending = false;

const connect = {
  plain: (nodes) => new Redis(nodes[0]),
  sentinel: (nodes) => new Redis({ sentinels: nodes, name: "mymaster" }),
  // Hears from SENTINEL's channels that the primary has changed.
  detector: (nodes) => new Redis({ sentinels: nodes, name: "mymaster", failoverDetector: true }),
  cluster: (nodes) => new Redis.Cluster(nodes),
};

const nowUs = () => process.hrtime.bigint() / 1000n;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (...words) => process.stdout.write(words.join(" ") + "\n");
const described = (error) => `${error.name} ${String(error.message).replace(/\s+/g, " ")}`;

async function work(name, client) {
  for (let number = 1; !ending; number += 1) {
    const key = `${name}:${number}`;
    const called = nowUs();
    let returned;
    try {
      await client.set(key, number);
      returned = nowUs();
    } catch (error) {
      say(name, called, nowUs(), "error", described(error));
      await pause(AGAIN_MS);
      continue;
    }
    try {
      const value = await client.get(key);
      say(name, called, returned, value === String(number) ? "ok" : "wrong", key);
    } catch (error) {
      say(name, called, returned, "ok", key);
      say(name, returned, nowUs(), "error", described(error));
    }
    await pause(GAP_MS);
  }
  client.disconnect();
}

const working = process.argv.slice(2).map((text) => {
  const [, name, kind, addresses] = /^(.*?)=(.*?)@(.*)$/.exec(text);
  const nodes = addresses.split(",").map((address) => {
    const [host, port] = address.split(":");
    return { host, port: Number(port) };
  });
  const client = connect[kind](nodes);
  // Told beside what became of commands; without a listener the library prints it.
  client.on("error", () => {});
  return work(name, client);
});

process.stdin.resume();
process.stdin.on("end", async () => {
  ending = true;
  await Promise.race([Promise.all(working), pause(30_000)]);
  process.exit(0);
});
