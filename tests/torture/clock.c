/* The clock of a process is wrong by as many seconds as stand in the file that WRONG_CLOCK names, and may jump.
 *
 *     cc -shared -fPIC -o clock.so clock.c;  WRONG_CLOCK=file LD_PRELOAD=./clock.so python ...
 *
 * Only the time of day: as where somebody sets it, what measures durations goes on. (libfaketime 0.9.10 makes
 * Python's sleep fail, whatever it is told not to fake.)
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long wrong(void) {
    static long seconds;
    static time_t read_at;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    if (now.tv_sec != read_at) {
        const char *name = getenv("WRONG_CLOCK");
        FILE *file = name ? fopen(name, "r") : NULL;
        if (file && fscanf(file, "%ld", &seconds) != 1)
            seconds = 0;
        if (file)
            fclose(file);
        read_at = now.tv_sec;
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += wrong();
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
