// Run by a binary that was just made, to see what it does; prints one line of JSON.
// It has to run on every Node from 6 on, so it is plain old JavaScript.
//
// Each path by which data gets into a sink is tried with a sink that does not take any. A path is unbounded if
// the source gets rid of everything nevertheless. Then the sink takes all, and what comes out is counted. An
// unbounded path needs no I/O for that, so a busy machine does not make it look bounded.
//
// A stock Node loses the first chunk that Writable.toWeb gets for a sink that is full (18 to 26), so there only a
// binary without backpressure has to have it all.
'use strict';

var fs = require('fs');
var http = require('http');
var net = require('net');
var stream = require('stream');
var zlib = require('zlib');

var CHUNK = 64 * 1024;
var CHUNKS = 32; // more than a local socket holds
var PACKED = 12; // through zlib, which takes 2 ms for each
var QUIET_TURNS = 20;
var QUIET_MS = 20;
var TIMEOUT_MS = 20000;

var chunk = Buffer.alloc(CHUNK);
for (var at = 0, seed = 1; at < CHUNK; at++) { // incompressible, or zlib would hold all of it
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  chunk[at] = seed >>> 16;
}
var paths = {};
var cleanups = [];
var sockets = 0;

// Tries `path(done)`; done(unbounded, sent, received) ends it. A path that this Node does not have is null.
function attempt(name, path) {
  return new Promise(function(resolve) {
    var ended = false;
    function end(result) {
      if (ended) return;
      ended = true;
      paths[name] = result;
      resolve();
    }
    function fail(error) { end({ error: String(error && error.message || error) }); }
    paths[name] = { error: 'it did not end' };
    try {
      path(function(unbounded, sent, received) {
        end({ unbounded: unbounded, sent: sent, received: received });
      }, fail, function() { end(null); });
    } catch (error) {
      fail(error);
    }
  });
}

// Calls then(true) once progress() is all there is, then(false) once it no longer changes.
function settle(progress, all, then) {
  var last = -1;
  var turns = 0;
  var since = 0;
  (function look() {
    var now = progress();
    if (now >= all) return then(true);
    if (now !== last) {
      last = now;
      turns = 0;
      since = Date.now();
    }
    if (++turns > QUIET_TURNS && Date.now() - since >= QUIET_MS) return then(false);
    setImmediate(look);
  })();
}

// A source of `count` chunks; `made` says how many it gave away.
function makeSource(count) {
  var source = new stream.Readable({
    highWaterMark: 1,
    read: function() { this.push(source.made < count ? (source.made++, chunk) : null); },
  });
  source.made = 0;
  return source;
}

// A sink that takes nothing until release() is called.
function makeSink(options) {
  var held = true;
  var waiting = null;
  var sink = new stream.Writable(Object.assign({
    highWaterMark: 1,
    write: function(part, encoding, callback) {
      sink.received += part.length;
      if (held) waiting = callback;
      else setImmediate(callback);
    },
  }, options));
  sink.received = 0;
  sink.release = function() {
    held = false;
    if (waiting !== null) waiting();
  };
  return sink;
}

// Writes until an answer is false, and then the rest: writing on is allowed, and nothing may be lost.
function writeAll(sink, count) {
  var unbounded = true;
  for (var i = 0; i < count; i++) if (!sink.write(chunk)) unbounded = false;
  return unbounded;
}

function tryWrite(done) {
  var sink = makeSink();
  var unbounded = writeAll(sink, CHUNKS);
  sink.on('finish', function() { done(unbounded, CHUNKS * CHUNK, sink.received); });
  sink.end();
  sink.release();
}

// connect(source, sink) starts the flow; `before` chunks are in the sink already.
function flow(before, connect) {
  return function(done, fail) {
    var source = makeSource(CHUNKS);
    var sink = makeSink();
    for (var i = 0; i < before; i++) sink.write(chunk);
    sink.on('finish', function() { done(unbounded, (CHUNKS + before) * CHUNK, sink.received); });
    sink.on('error', fail);
    var unbounded = false;
    connect(source, sink, fail);
    settle(function() { return source.made; }, CHUNKS, function(all) {
      unbounded = all;
      sink.release();
    });
  };
}

function pipe(source, sink) { source.pipe(sink); }

function pipeTransform(source, sink) { source.pipe(new stream.PassThrough()).pipe(sink); }

function pipeline(source, sink, fail) {
  stream.pipeline(source, sink, function(error) { if (error) fail(error); });
}

// An iterable that is no stream, which pipeline() pumps by itself.
function pipelineIterable(source, sink, fail) {
  var iterable = {};
  iterable[Symbol.asyncIterator] = function() { return source[Symbol.asyncIterator](); };
  stream.pipeline(iterable, sink, function(error) { if (error) fail(error); });
}

// for await (const part of source) if (!sink.write(part)) await once(sink, 'drain');
function forAwait(source, sink, fail) {
  var iterator = source[Symbol.asyncIterator]();
  function next() {
    iterator.next().then(function(part) {
      if (part.done) return sink.end();
      if (sink.write(part.value)) next();
      else sink.once('drain', next);
    }).catch(fail);
  }
  next();
}

var hasIterators = typeof Symbol.asyncIterator === 'symbol' && !!stream.Readable.prototype[Symbol.asyncIterator];
var pumpsIterables = hasIterators && typeof stream.Readable.from === 'function' && !!stream.promises;

// Chunk by chunk into a web stream, each once the one before was taken.
function feed(writer, count, progress, fail) {
  if (progress.taken === count) {
    writer.close().catch(fail);
    return;
  }
  writer.write(new Uint8Array(chunk)).then(function() {
    progress.taken++;
    feed(writer, count, progress, fail);
  }).catch(fail);
}

function toWeb(before) {
  return function(done, fail, skip) {
    if (typeof stream.Writable.toWeb !== 'function') return skip();
    var sink = makeSink();
    for (var i = 0; i < before; i++) sink.write(chunk);
    var progress = { taken: 0 };
    var unbounded = false;
    sink.on('finish', function() { done(unbounded, (CHUNKS + before) * CHUNK, sink.received); });
    feed(stream.Writable.toWeb(sink).getWriter(), CHUNKS, progress, fail);
    settle(function() { return progress.taken; }, CHUNKS, function(all) {
      unbounded = all;
      sink.release();
    });
  };
}

function tryCompression(done, fail, skip) {
  if (typeof CompressionStream !== 'function') return skip();
  var gzip = new CompressionStream('gzip');
  var progress = { taken: 0 };
  feed(gzip.writable.getWriter(), PACKED, progress, fail);
  settle(function() { return progress.taken; }, PACKED, function(unbounded) {
    var packed = [];
    var reader = gzip.readable.getReader();
    (function drain() {
      reader.read().then(function(part) {
        if (part.done) return done(unbounded, PACKED * CHUNK, zlib.gunzipSync(Buffer.concat(packed)).length);
        packed.push(Buffer.from(part.value));
        drain();
      }).catch(fail);
    })();
  });
}

function tryGzip(done, fail) {
  var gzip = zlib.createGzip({ level: 1 });
  var packed = [];
  var unbounded = writeAll(gzip, PACKED);
  gzip.on('error', fail);
  gzip.on('data', function(part) { packed.push(part); });
  gzip.on('end', function() {
    done(unbounded, PACKED * CHUNK, zlib.gunzipSync(Buffer.concat(packed)).length);
  });
  gzip.end();
}

function tryFile(done, fail) {
  var file = fs.createWriteStream('sink');
  file.on('error', fail);
  file.on('finish', function() { done(unbounded, CHUNKS * CHUNK, fs.statSync('sink').size); });
  var unbounded = writeAll(file, CHUNKS);
  file.end();
}

// A place for a server: in the current folder, since a machine may be without any network.
function place() {
  var name = 'socket' + sockets++;
  return process.platform === 'win32' ? '\\\\.\\pipe\\nodekiln-' + process.pid + '-' + name : name;
}

function listen(server, fail, then) {
  var where = place();
  server.on('error', fail);
  server.listen(where, function() { then(where); });
  cleanups.push(function() { server.close(); });
}

// Counts what comes out of `readable`, from now on.
function count(readable, then) {
  var received = 0;
  readable.on('data', function(part) { received += part.length; });
  readable.on('end', function() { then(received); });
  readable.resume();
}

// `fill(socket, then)` fills a socket whose other end does not read.
function socket(fill) {
  return function(done, fail) {
    var peer = null;
    var client = null;
    var unbounded = null;
    function go() {
      if (peer === null || unbounded === null) return;
      count(peer, function(received) { done(unbounded, CHUNKS * CHUNK, received); });
    }
    var server = net.createServer({ pauseOnConnect: true }, function(found) {
      peer = found;
      peer.on('error', fail);
      go();
    });
    listen(server, fail, function(where) {
      client = net.connect(where, function() {
        fill(client, function(all) {
          unbounded = all;
          go();
        });
      });
      client.on('error', fail);
      cleanups.push(function() { client.destroy(); });
    });
  };
}

function fillByWrite(sink, then) {
  var unbounded = writeAll(sink, CHUNKS);
  sink.end();
  then(unbounded);
}

function fillByPipe(sink, then) {
  var source = makeSource(CHUNKS);
  source.pipe(sink);
  settle(function() { return source.made; }, CHUNKS, then);
}

// A response whose client does not read until all is written, or no more can be.
function response(headers, fill) {
  return function(done, fail) {
    var answer = null;
    var unbounded = null;
    function go() {
      if (answer === null || unbounded === null) return;
      count(answer, function(received) { done(unbounded, CHUNKS * CHUNK, received); });
    }
    var server = http.createServer(function(req, res) {
      res.writeHead(200, headers);
      fill(res, function(all) {
        unbounded = all;
        go();
      });
    });
    listen(server, fail, function(where) {
      var client = http.get({ socketPath: where, agent: false }, function(found) {
        answer = found;
        answer.pause();
        go();
      });
      client.on('error', fail);
      cleanups.push(function() { client.abort(); });
    });
  };
}

// A request whose server does not read until all is written; at once or when it is connected.
function request(headers, connected) {
  return function(done, fail) {
    var body = null;
    var unbounded = null;
    function go() {
      if (body === null || unbounded === null) return;
      count(body, function(received) { done(unbounded, CHUNKS * CHUNK, received); });
    }
    var server = http.createServer(function(req, res) {
      body = req;
      body.pause();
      body.on('end', function() { res.end(); });
      go();
    });
    listen(server, fail, function(where) {
      var client = http.request({ socketPath: where, agent: false, method: 'POST', headers: headers });
      client.on('error', fail);
      cleanups.push(function() { client.abort(); });
      function write() {
        fillByWrite(client, function(all) {
          unbounded = all;
          go();
        });
      }
      if (!connected) return write();
      client.on('socket', function(found) { found.once('connect', function() { setImmediate(write); }); });
      client.flushHeaders();
    });
  };
}

// pick(res) is what is written to: the stream itself or the response around it.
function http2(pick) {
  return function(done, fail, skip) {
    var library;
    try {
      library = require('http2');
    } catch (error) { // a Node without TLS has no HTTP/2
      return skip();
    }
    var answer = null;
    var unbounded = null;
    function go() {
      if (answer === null || unbounded === null) return;
      count(answer, function(received) { done(unbounded, CHUNKS * CHUNK, received); });
    }
    var server = library.createServer(function(req, res) {
      res.writeHead(200);
      fillByWrite(pick(res), function(all) {
        unbounded = all;
        go();
      });
    });
    listen(server, fail, function(where) {
      var session = library.connect('http://localhost', {
        createConnection: function() { return net.connect(where); },
      });
      session.on('error', fail);
      cleanups.push(function() { session.destroy(); });
      var client = session.request({ ':path': '/' });
      client.on('error', fail);
      client.on('response', function() {
        answer = client;
        go();
      });
      client.end();
    });
  };
}

// The texts of Node's own modules, as they are in the binary.
function askTexts(names) {
  var texts = {};
  if (names.length === 0) return texts;
  var crypto = require('crypto'); // only now, because a Node may be built without it
  var natives = process.binding('natives');
  names.forEach(function(name) {
    var text = natives[name];
    texts[name] = text === undefined ? null : crypto.createHash('sha256').update(text).digest('hex');
  });
  return texts;
}

function answer() {
  var variables = process.config.variables;
  cleanups.forEach(function(cleanup) {
    try {
      cleanup();
    } catch (error) {} // it is closed already
  });
  process.stdout.write(JSON.stringify({
    version: process.version,
    recipe: variables.nodekiln_recipe || null,
    plan: variables.nodekiln_plan || null,
    paths: paths,
    texts: askTexts(process.argv.slice(2)),
  }) + '\n', function() { process.exit(0); });
}

var length = { 'Content-Length': CHUNKS * CHUNK };
var chunked = { 'Transfer-Encoding': 'chunked' };
var tries = [
  ['write()', tryWrite],
  ['pipe() into an empty sink', flow(0, pipe)],
  ['pipe() into a full sink', flow(2, pipe)],
  ['pipe() through a Transform', flow(0, pipeTransform)],
  ['net.Socket, write()', socket(fillByWrite)],
  ['net.Socket, pipe()', socket(fillByPipe)],
  ['HTTP response with Content-Length', response(length, fillByWrite)],
  ['HTTP response, chunked', response(chunked, fillByWrite)],
  ['HTTP response, pipe()', response(chunked, fillByPipe)],
  ['HTTP request with Content-Length', request(length, true)],
  ['HTTP request, chunked', request(chunked, true)],
  ['HTTP request before its connection', request(length, false)],
  ['HTTP/2 stream', http2(function(res) { return res.stream; })],
  ['HTTP/2 response', http2(function(res) { return res; })],
  ['Writable.toWeb of an empty sink', toWeb(0)],
  ['Writable.toWeb of a full sink', toWeb(2)],
  ['CompressionStream', tryCompression],
  ['gzip', tryGzip],
  ['fs.WriteStream', tryFile],
];
if (typeof stream.pipeline === 'function') tries.push(['pipeline()', flow(0, pipeline)]);
if (pumpsIterables) {
  tries.push(['pipeline() of an iterable into an empty sink', flow(0, pipelineIterable)]);
  tries.push(['pipeline() of an iterable into a full sink', flow(2, pipelineIterable)]);
}
if (hasIterators) tries.push(['for await and write()', flow(0, forAwait)]);

Promise.race([
  Promise.all(tries.map(function(each) { return attempt(each[0], each[1]); })),
  new Promise(function(resolve) { setTimeout(resolve, TIMEOUT_MS); }),
]).then(answer).catch(function(error) {
  process.stderr.write(String(error && error.stack || error) + '\n');
  process.exit(1);
});
