/*
 * Streams that push back, on exit: how often, how full they were, how long until they drained, and what was written
 * although they were full. Microseconds; bytes, or objects for a stream in object mode.
 *
 *   dtrace -Z -s backpressure.d PID
 *
 * A stream is full from the first write() that should answer false until 'drain'. Every further one between the two
 * ignores backpressure.
 */

#pragma D option quiet
#pragma D option switchrate=10hz

node$1:::stream-backpressure
{
    @pushed_back[arg0, (int)arg1, arg3] = count();
    @most_buffered[arg0] = max(arg2);
}

node$1:::stream-backpressure
/full[arg0]/
{
    @ignored_writes[arg0] = count();
    @ignored_bytes[arg0] = sum(arg4);
}

node$1:::stream-backpressure
/!full[arg0]/
{
    full[arg0] = timestamp;
    @not_drained[arg0] = sum(1);
}

node$1:::stream-drain
/full[arg0]/
{
    this->us = (timestamp - full[arg0]) / 1000;
    @until_drain = quantize(this->us);
    @drains[arg0] = count();
    @averages[arg0] = avg(this->us);
    @not_drained[arg0] = sum(-1);
    full[arg0] = 0;
}

dtrace:::END
{
    printa("pushed_back_by_stream_fd_highwatermark[%d, %d, %d]: %@d\n", @pushed_back);
    printa("most_buffered_by_stream[%d]: %@d\n", @most_buffered);
    printa("ignored_writes_by_stream[%d]: %@d\n", @ignored_writes);
    printa("ignored_bytes_by_stream[%d]: %@d\n", @ignored_bytes);
    printa("until_drain_us %@d\n", @until_drain);
    printa("until_drain_us_by_stream[%d]: count %@d, average %@d\n", @drains, @averages);
    printa("not_drained_by_stream[%d]: %@d\n", @not_drained);
}
