// Preloaded into a run (--require): appends each collection that perf_hooks reports to the file of
// NODEKILN_COLLECTIONS, as "type,start,duration", in milliseconds since the process began.
'use strict';

const { appendFileSync } = require('fs');
const { PerformanceObserver, constants } = require('perf_hooks');

const place = process.env.NODEKILN_COLLECTIONS;
const types = { // V8's numbers of today; up to Node 16 they were others
  [constants.NODE_PERFORMANCE_GC_MINOR]: 1,
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 4,
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 8,
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 16,
};

function keep(entries) {
  const lines = entries.map((entry) => {
    const { kind } = entry.detail || entry; // `detail` since Node 16, which warns of the older place
    return `${types[kind] || kind},${entry.startTime},${entry.duration}\n`;
  });
  if (lines.length > 0) appendFileSync(place, lines.join(''));
}

const observer = new PerformanceObserver((list) => keep(list.getEntries()));
observer.observe({ entryTypes: ['gc'] });
process.on('exit', () => keep(observer.takeRecords()));
