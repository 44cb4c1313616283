// Run by a binary that was just made, to see what it does; prints one line of JSON.
// It has to run on every Node from 6 on, so it is plain old JavaScript.
'use strict';

var stream = require('stream');
var zlib = require('zlib');

var CHUNKS = 33;
var CHUNK = 64 * 1024;

function answer(found) {
  var variables = process.config.variables;
  process.stdout.write(JSON.stringify({
    version: process.version,
    recipe: variables.nodekiln_recipe || null,
    plan: variables.nodekiln_plan || null,
    write_answers: found.write,
    to_web: found.toWeb || null,
    compression: found.compression || null,
    texts: askTexts(process.argv.slice(2)),
  }) + '\n');
}

// The texts of Node's own modules, as they stand in the binary.
function askTexts(names) {
  var texts = {};
  if (names.length === 0) return texts;
  var crypto = require('crypto'); // here, because a Node may be built without it
  var natives = process.binding('natives');
  names.forEach(function(name) {
    var text = natives[name];
    texts[name] = text === undefined ? null : crypto.createHash('sha256').update(text).digest('hex');
  });
  return texts;
}

// A sink that is full after the first byte: what does write() say?
function askWrite() {
  var sink = new stream.Writable({
    highWaterMark: 1,
    write: function(chunk, encoding, callback) { setImmediate(callback); },
  });
  return sink.write(Buffer.alloc(CHUNK));
}

// Everything that goes into a Writable through a web stream has to come out.
function tryToWeb() {
  if (typeof stream.Writable.toWeb !== 'function') return Promise.resolve(null);
  var received = 0;
  var sink = new stream.Writable({
    highWaterMark: CHUNK,
    write: function(chunk, encoding, callback) {
      received += chunk.length;
      setImmediate(callback);
    },
  });
  var writer = stream.Writable.toWeb(sink).getWriter();
  var writes = [];
  for (var i = 0; i < CHUNKS; i++) writes.push(writer.write(new Uint8Array(CHUNK).fill(i)));
  return Promise.all(writes).then(function() {
    return writer.close();
  }).then(function() {
    return { sent: CHUNKS * CHUNK, received: received };
  });
}

// The same through CompressionStream, whose output has to unpack to what went in.
function tryCompression() {
  if (typeof CompressionStream !== 'function') return Promise.resolve(null);
  var packed = [];
  var gzip = new CompressionStream('gzip');
  var reader = gzip.readable.getReader();
  var writer = gzip.writable.getWriter();
  function drain() {
    return reader.read().then(function(part) {
      if (part.done) return;
      packed.push(Buffer.from(part.value));
      return drain();
    });
  }
  var writes = [drain()];
  for (var i = 0; i < CHUNKS; i++) writes.push(writer.write(new Uint8Array(CHUNK).fill(i)));
  writes.push(writer.close());
  return Promise.all(writes).then(function() {
    return { sent: CHUNKS * CHUNK, received: zlib.gunzipSync(Buffer.concat(packed)).length };
  });
}

var found = { write: askWrite() };
tryToWeb().then(function(toWeb) {
  found.toWeb = toWeb;
  return tryCompression();
}).then(function(compression) {
  found.compression = compression;
  answer(found);
}).catch(function(error) {
  process.stderr.write(String(error && error.stack || error) + '\n');
  process.exitCode = 1;
});
