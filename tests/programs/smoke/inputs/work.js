// What node does under test: prints one line a part, the same on every run. Argument: how many times the small work.
"use strict";
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const crypto = require("crypto");
const http = require("http");
const util = require("util");
const zlib = require("zlib");

// A small deterministic generator: the same numbers in every run and every worker.
function generator(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * below);
  };
}

const sha = (data) => crypto.createHash("sha256").update(data).digest("hex");
const words = ["amber", "birch", "cedar", "dune", "elm", "fjord"];

function rows(roll, count) {
  return Array.from({ length: count }, (_, id) => ({
    id, name: words[roll(6)].repeat(1 + roll(4)), tags: [roll(100), words[roll(6)]], size: roll(1000000) / 7,
  }));
}

// What a worker does: parse, change and return documents and buffers, moving one of them by transfer.
function worker() {
  const roll = generator(workerData.seed);
  const made = JSON.stringify(rows(roll, 4000));
  const buffers = Array.from({ length: 300 }, () => Buffer.alloc(1 + roll(60000), roll(256)));
  const bytes = new Uint8Array(Buffer.concat(buffers));
  parentPort.postMessage({ documents: sha(JSON.stringify(JSON.parse(made))), bytes }, [bytes.buffer]);
}

async function workers(scale) {
  const lines = [];
  for (let round = 0; round < 2 * scale; round++) {
    const running = Array.from({ length: 4 }, (_, index) => new Promise((resolve, reject) => {
      const thread = new Worker(__filename, { workerData: { seed: round * 4 + index } });
      let answer;
      thread.on("message", (message) => { answer = `${message.documents} ${sha(message.bytes)}`; });
      thread.on("error", reject);
      thread.on("exit", (code) => (code === 0 ? resolve(answer) : reject(new Error(`worker exit ${code}`))));
    }));
    lines.push(...(await Promise.all(running)));
  }
  return lines.join("\n");
}

// Buffers of all sizes outside the JavaScript heap, kept, dropped and joined.
function buffers(roll, scale) {
  const kept = [];
  const hash = crypto.createHash("sha256");
  for (let step = 0; step < 12000 * scale; step++) {
    const size = roll(10) === 0 ? roll(400000) : roll(9000);
    kept.push(roll(2) ? Buffer.alloc(size) : Buffer.allocUnsafeSlow(size).fill(step & 255));
    if (kept.length > 200) {
      const out = kept.splice(roll(150), 40);
      if (step % 50 === 0) hash.update(Buffer.concat(out));
    }
  }
  return hash.digest("hex");
}

// Compression, key derivation and hashing in the threads of the pool, which free what the main thread made.
async function pool(roll, scale) {
  const jobs = [];
  for (let job = 0; job < 40 * scale; job++) {
    const text = Buffer.from(words[roll(6)].repeat(2000 + roll(20000)) + job);
    jobs.push((async () => {
      const packed = await util.promisify(job % 2 ? zlib.gzip : zlib.brotliCompress)(text, job % 2 ? {} : {
        params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 },
      });
      const back = await util.promisify(job % 2 ? zlib.gunzip : zlib.brotliDecompress)(packed);
      if (!back.equals(text)) throw new Error("compression lost data");
      return sha(await util.promisify(crypto.scrypt)(back.subarray(0, 64), "salt", 32, { N: 1024 }));
    })());
  }
  return (await Promise.all(jobs)).join("");
}

// A server on the loopback address, asked by clients in the same process.
async function server(scale) {
  const listener = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(parts).toString());
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ total: body.reduce((sum, row) => sum + row.tags[0], 0), body }));
    });
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  const ask = (seed) => new Promise((resolve, reject) => {
    const request = http.request(
      { host: "127.0.0.1", port: listener.address().port, method: "POST", agent, timeout: 30000 },
      (response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("end", () => resolve(sha(Buffer.concat(parts))));
      });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("no answer in 30 s")));
    request.end(JSON.stringify(rows(generator(seed), 50 + (seed % 200))));
  });
  const answers = await Promise.all(Array.from({ length: 250 * scale }, (_, seed) => ask(seed)));
  agent.destroy();
  await new Promise((resolve) => listener.close(resolve));
  return answers.join("");
}

async function main() {
  const scale = Number(process.argv[2] || 1);
  const roll = generator(99);
  const documents = rows(roll, 25000 * scale);
  const text = JSON.stringify(documents);
  if (!util.isDeepStrictEqual(JSON.parse(text), documents)) throw new Error("JSON lost data");
  console.log("json", text.length, sha(text));
  const grouped = new Map();
  for (const row of JSON.parse(text)) grouped.set(row.name, [...(grouped.get(row.name) || []).slice(-50), row.id]);
  console.log("map", sha(JSON.stringify([...grouped.entries()].sort())));
  console.log("regex", sha(text.replace(/"name":"(\w+?)(elm|dune)+"/g, (_, head, last) => `<${last}${head}>`)));
  console.log("buffers", buffers(roll, scale));
  console.log("workers", sha(await workers(scale)));
  console.log("pool", sha(await pool(roll, scale)));
  console.log("server", sha(await server(scale)));
}

if (isMainThread) {
  main().catch((error) => { console.error(error); process.exit(1); });
} else {
  worker();
}
