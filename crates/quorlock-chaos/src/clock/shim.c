/* Loaded before a server (LD_PRELOAD): its wall clock is off by the amount in a file, at any time, and may run at another
   speed. All other clocks are left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Off by so many microseconds at that time of the boot clock (nanoseconds), and by more each second since. */
struct bend {
    int64_t from, micros, millionths;
};

/* The process that sets the clock fills the bend that is not in use, and then marks it as in use. */
static volatile struct {
    int64_t in_use;
    struct bend bends[2];
} *shared;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("QUORLOCK_CHAOS_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    close(file);
    shared = page;
}

static int64_t nanos_of(const struct timespec *at) { return at->tv_sec * 1000000000LL + at->tv_nsec; }

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, id, at);
    if (!failed && shared && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        volatile struct bend *bend = &shared->bends[shared->in_use & 1];
        struct timespec boot;
        syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &boot);
        int64_t gained = (nanos_of(&boot) - bend->from) / 1000 * bend->millionths / 1000;
        int64_t nanos = nanos_of(at) + bend->micros * 1000 + gained;
        at->tv_sec = nanos / 1000000000;
        at->tv_nsec = nanos % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
