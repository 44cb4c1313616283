/*
 * Garbage collections: a line "elapsed_ms,duration_ms" for each, counts and times on exit.
 *
 *   dtrace -Z -s gc.d PID
 *
 * elapsed_ms counts from the tracer's start to the end of the collection. Types 1 (scavenge), 2 (minor mark-sweep) and
 * 4 (mark-compact) are what --trace-gc prints; 8 and 16 are steps around them, and stand apart. Collections of two
 * types nest, and every worker has its own: hence pairs by thread and type.
 */

#pragma D option quiet
#pragma D option switchrate=10hz

dtrace:::BEGIN
{
    began = timestamp;
}

node$1:::gc-start
{
    self->begun[arg0] = timestamp;
}

node$1:::gc-done
/self->begun[arg0] && (arg0 == 1 || arg0 == 2 || arg0 == 4)/
{
    this->took = timestamp - self->begun[arg0];
    printf("%d,%d\n", (timestamp - began) / 1000000, this->took / 1000000);
    @durations = quantize(this->took / 1000);
    @counts[arg0] = count();
    @totals[arg0] = sum(this->took / 1000);
}

node$1:::gc-done
/self->begun[arg0] && arg0 != 1 && arg0 != 2 && arg0 != 4/
{
    @other_counts[arg0] = count();
    @other_totals[arg0] = sum((timestamp - self->begun[arg0]) / 1000);
}

node$1:::gc-done
{
    self->begun[arg0] = 0;
}

dtrace:::END
{
    printa("duration_us %@d\n", @durations);
    printa("duration_us_by_type[%d]: count %@d, total %@d\n", @counts, @totals);
    printa("other_us_by_type[%d]: count %@d, total %@d\n", @other_counts, @other_totals);
}
