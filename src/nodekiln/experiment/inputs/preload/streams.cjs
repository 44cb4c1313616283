// Preloaded into a trial (--require): tells how much waits in the streams that the workload published on the
// channel nodekiln:writable. A line with their writableLength, summed, goes to the file descriptor of
// NODEKILN_STREAMS, each NODEKILN_INTERVAL milliseconds.
'use strict';

const { channel } = require('diagnostics_channel');
const { writeSync } = require('fs');

const wire = Number(process.env.NODEKILN_STREAMS);
const interval = Number(process.env.NODEKILN_INTERVAL);
const published = channel('nodekiln:writable');
const streams = [];

function tell() {
  let length = 0;
  for (const stream of streams) {
    const waiting = stream?.writableLength; // whatever was published: it is the workload's
    if (Number.isSafeInteger(waiting)) length += waiting;
  }
  try {
    writeSync(wire, `${length}\n`);
  } catch {
    clearInterval(timer); // nobody listens any more, which is no matter of the workload's
  }
}

let timer;
published.subscribe((stream) => {
  if (streams.length === 0) timer = setInterval(tell, interval).unref();
  streams.push(stream);
});
module.exports = published; // held: up to Node 18, a channel that nobody holds forgets its subscribers
