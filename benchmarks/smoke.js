// Uses http, streams, fs, workers, ESM and crypto, and prints the name of each part that works.
'use strict';
const assert = require('assert'), crypto = require('crypto'), fs = require('fs'), http = require('http');
const os = require('os'), path = require('path'), zlib = require('zlib');
const { Worker } = require('worker_threads');
const { pipeline } = require('stream/promises');
const { Readable, Transform } = require('stream');
const DATA = Buffer.alloc(1e6, 'nodekiln');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'smoke-'));
const checks = {
  async http() {
    const server = http.createServer((request, response) => pipeline(request, response)).listen(0, '127.0.0.1');
    await new Promise((done) => server.once('listening', done));
    const { port } = server.address();
    const sent = http.request({ port, host: '127.0.0.1', method: 'POST' });
    sent.end(DATA);
    const [response] = await require('events').once(sent, 'response');
    assert.deepStrictEqual(Buffer.concat(await response.toArray()), DATA);
    const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'abc' });
    assert.strictEqual(await answer.text(), 'abc');
    server.closeAllConnections();
    server.close();
  },
  async streams() {
    const upper = new Transform({ transform(chunk, _, done) { done(null, chunk.toString().toUpperCase()); } });
    const parts = [];
    await pipeline(Readable.from(['a', 'b']), upper, async (source) => { for await (const part of source) parts.push(part); });
    assert.strictEqual(Buffer.concat(parts).toString(), 'AB');
    assert.deepStrictEqual(zlib.gunzipSync(zlib.gzipSync(DATA)), DATA);
  },
  async fs() {
    const file = path.join(folder, 'a');
    await fs.promises.writeFile(file, DATA);
    await pipeline(fs.createReadStream(file), fs.createWriteStream(`${file}b`));
    assert.deepStrictEqual(fs.readFileSync(`${file}b`), DATA);
    assert.deepStrictEqual(fs.readdirSync(folder).sort(), ['a', 'ab']);
  },
  async workers() {
    const worker = new Worker('const { parentPort: p } = require("worker_threads"); p.on("message", (m) => { p.postMessage(m * 2); p.close(); })', { eval: true });
    worker.postMessage(21);
    assert.deepStrictEqual(await require('events').once(worker, 'message'), [42]);
  },
  async esm() {
    fs.writeFileSync(path.join(folder, 'm.mjs'), 'import { sep } from "node:path"; export default sep; export const here = import.meta.url;');
    const loaded = await import(require('url').pathToFileURL(path.join(folder, 'm.mjs')).href);
    assert.strictEqual(loaded.default, path.sep);
  },
  async crypto() {
    assert.strictEqual(crypto.createHash('sha256').update('abc').digest('hex').slice(0, 8), 'ba7816bf');
    const { privateKey, publicKey } = crypto.generateKeyPairSync('ed25519');
    assert(crypto.verify(null, DATA, publicKey, crypto.sign(null, DATA, privateKey)));
    const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt', 'decrypt']);
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const secret = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, DATA);
    assert.deepStrictEqual(Buffer.from(await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, secret)), DATA);
  },
};
(async () => {
  for (const [name, check] of Object.entries(checks)) { await check(); console.log(name); }
})().finally(() => fs.rmSync(folder, { recursive: true }));
