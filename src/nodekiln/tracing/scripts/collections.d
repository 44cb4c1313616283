/*
 * Garbage collections for a program to read: a line "@name[type, begun, thread]: ended" for each, of every type.
 *
 *   dtrace -Z -s collections.d PID
 *
 * Times are in nanoseconds of the kernel's clock (CLOCK_MONOTONIC). Collections of two types nest, and every worker has
 * its own: hence pairs by thread and type.
 */

#pragma D option quiet
#pragma D option switchrate=10hz

node$1:::gc-start
{
    self->begun[arg0] = timestamp;
}

node$1:::gc-done
/self->begun[arg0]/
{
    printf("@ended[%d, %d, %d]: %d\n", arg0, self->begun[arg0], tid, timestamp);
    self->begun[arg0] = 0;
}
