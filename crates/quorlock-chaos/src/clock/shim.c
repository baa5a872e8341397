/* Loaded into a server (LD_PRELOAD): changes its wall clock by the offset and the rate in a shared file. All other clocks
   stay as they are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* An offset (microseconds) at one time of the boot clock (nanoseconds), and its growth per second since (ppm). */
struct rule {
    int64_t from, micros, ppm;
};

/* The process that sets the clock fills the slot that is not in use, and then marks it as in use. */
static volatile struct {
    int64_t in_use;
    struct rule slots[2];
} *shared;

__attribute__((constructor)) static void map_shared_file(void) {
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
        volatile struct rule *rule = &shared->slots[shared->in_use & 1];
        struct timespec boot;
        syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &boot);
        int64_t gained = (nanos_of(&boot) - rule->from) / 1000 * rule->ppm / 1000;
        int64_t nanos = nanos_of(at) + rule->micros * 1000 + gained;
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
