/* Loaded into the server by LD_PRELOAD: calls on files below FAULTS_PATH fail, are cut short or wait as the file FAULTS_RULES says.
 *
 * Rules, a line each:  GENERATION CALL ERRNO TIMES WAIT_MS PART
 *   CALL    write, sync, open, rename, remove (all system calls of a kind are one); page: a write of a page or more
 *   ERRNO   what the call fails with; 0: it succeeds; -1: it writes half of its bytes
 *   TIMES   for how many calls; -1: for ever
 *   PART    a part of the path, or "-" for any
 * The file is read at each call. How often a rule was used is forgotten when its generation changes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES 16
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long generation = -1;
static long used[RULES];

/* The errno of a call on `path` (0: none, -1: a short write). */
static int fault(const char *call, const char *path, size_t len) {
    const char *below = getenv("FAULTS_PATH"), *rules = getenv("FAULTS_RULES");
    if (!below || !rules || strncmp(path, below, strlen(below))) return 0;
    int saved = errno, error = 0;
    long wait = 0;
    pthread_mutex_lock(&lock);
    FILE *file = fopen(rules, "r");
    if (file) {
        char name[32], part[256];
        long of, times, ms;
        int code;
        for (int i = 0; i < RULES && fscanf(file, "%ld %31s %d %ld %ld %255s", &of, name, &code, &times, &ms, part) == 6; i++) {
            if (of != generation) {
                generation = of;
                memset(used, 0, sizeof used);
            }
            if ((strcmp(name, call) && !(len >= 4096 && !strcmp(name, "page") && !strcmp(call, "write"))) || (strcmp(part, "-") && !strstr(path, part))) continue;
            if (times >= 0 && used[i] >= times) continue;
            used[i]++;
            wait += ms;
            if (code) error = code;
        }
        fclose(file);
    }
    pthread_mutex_unlock(&lock);
    if (wait) usleep(wait * 1000);
    errno = saved;
    return error;
}

static int fault_of(const char *call, int fd, size_t of) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t len = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (len < 0 || path[0] != '/') return 0;
    path[len] = 0;
    return fault(call, path, of);
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define SYNC(name) \
    int name(int fd) { \
        REAL(name); \
        int error = fault_of("sync", fd, 0); \
        if (error > 0) { errno = error; return -1; } \
        return real(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define WRITE(name, offset_type) \
    ssize_t name(int fd, const void *bytes, size_t len, offset_type at) { \
        REAL(name); \
        int error = fault_of("write", fd, len); \
        if (error > 0) { errno = error; return -1; } \
        if (error < 0 && len > 1) len /= 2; \
        return real(fd, bytes, len, at); \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t len) {
    REAL(write);
    int error = fault_of("write", fd, len);
    if (error > 0) { errno = error; return -1; }
    if (error < 0 && len > 1) len /= 2;
    return real(fd, bytes, len);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    int error = fault_of("write", fd, len);
    if (error > 0) { errno = error; return -1; }
    return real(fd, parts, error < 0 && count > 1 ? count / 2 : count, at);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int error = flags & (O_WRONLY | O_RDWR) ? fault("open", path, 0) : 0; \
        if (error > 0) { errno = error; return -1; } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int rename(const char *from, const char *to) {
    REAL(rename);
    int error = fault("rename", to, 0);
    if (error > 0) { errno = error; return -1; }
    return real(from, to);
}

int unlink(const char *path) {
    REAL(unlink);
    int error = fault("remove", path, 0);
    if (error > 0) { errno = error; return -1; }
    return real(path);
}
