// A pipeline of objects: records go through a stage that takes its time, into a last stage that files them.
//
//   node objects.mjs INPUT OUTPUT [HIGH_WATER_MARK]
//
// A record is a chunk of INPUT (64 KiB) with its number. The slow stage compresses each by itself; compressed parts, one after
// the other, are a gzip file as well. Without backpressure nearly all records wait in the slow stage.
// HIGH_WATER_MARK is a number of objects here (Node's default is 16), and so is writableLength.

import { channel } from 'node:diagnostics_channel';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzip } from 'node:zlib';

const [input, output, mark] = process.argv.slice(2);
const options = { objectMode: true, ...(mark === undefined ? {} : { highWaterMark: Number(mark) }) };

async function* records(chunks) {
  let number = 0;
  for await (const data of chunks) yield { number: number++, data };
}

const compress = new Transform({
  ...options,
  transform({ number, data }, _, done) {
    gzip(data, (error, packed) => done(error, { number, packed }));
  },
});

const file = await open(output, 'w');
const sink = new Writable({
  ...options,
  write({ packed }, _, done) {
    file.appendFile(packed).then(() => done(), done);
  },
});

for (const stream of [compress, sink]) channel('nodekiln:writable').publish(stream);

await pipeline(createReadStream(input), records, compress, sink);
await file.close();
