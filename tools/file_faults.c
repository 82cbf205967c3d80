/* Preloaded between a program and its files: writes a log of all that changes below one folder, and makes calls fail.
 *
 * One process at a time, told by faults_record() and faults_arm() what to do; before that it only passes calls on.
 * The log is what write_log.py replays: records of a fixed head and a body, in the order the calls were made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { KIND_WRITE = 1, KIND_SYNC = 2, KIND_READ = 4, KIND_OPEN = 8 };
enum { MOST_FILES = 65536 };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static int log_end = -1;
static unsigned char watched[MOST_FILES]; /* by descriptor: opened below the folder */
static int kinds, failure, lasting;
static long until_failure = -1, seen;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static int below(const char *path) {
    char absolute[PATH_MAX];
    size_t length = strlen(folder);
    if (!length || !path) return 0;
    if (path[0] != '/') {
        char here[PATH_MAX / 2];
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(absolute, sizeof absolute, "%s/%s", here, path) >= (int)sizeof absolute) return 0;
        path = absolute;
    }
    return !strncmp(path, folder, length) && (path[length] == 0 || path[length] == '/');
}

static int is_watched(int file) { return file >= 0 && file < MOST_FILES && watched[file]; }

/* Head: kind, descriptor, two numbers, length of the body. The caller holds the guard. */
static void note(char kind, int file, int64_t first, int64_t second, const void *body, size_t length) {
    if (log_end < 0) return;
    struct { int64_t kind, file, first, second, length; } head = {kind, file, first, second, (int64_t)length};
    __typeof__(&write) put = REAL(write);
    if (put(log_end, &head, sizeof head) != sizeof head) abort();
    const char *from = body;
    while (length) {
        ssize_t done = put(log_end, from, length);
        if (done <= 0) abort();
        from += done;
        length -= (size_t)done;
    }
}

/* 1 where this call is to fail. The caller holds the guard. */
static int fails(int kind) {
    if (!(kinds & kind)) return 0;
    seen++;
    if (until_failure < 0) return 0;
    if (until_failure > 1) {
        until_failure--;
        return 0;
    }
    if (!lasting) until_failure = -1;
    errno = failure;
    return 1;
}

/* Record all that changes below a folder into an open file; -1 ends it. */
void faults_record(const char *below_folder, int end) {
    snprintf(folder, sizeof folder, "%s", below_folder);
    log_end = end;
}

/* Fail the nth call of these kinds on files below a folder with this errno, and with lasting all that follow. nth 0
 * fails none and only counts. */
void faults_arm(const char *below_folder, int of_kinds, long nth, int with, int lasts) {
    snprintf(folder, sizeof folder, "%s", below_folder);
    kinds = of_kinds, until_failure = nth > 0 ? nth : -1, failure = with, lasting = lasts, seen = 0;
}

long faults_seen(void) { return seen; }

static int opened(int file, const char *path, int flags, int there_before) {
    if (file < 0 || file >= MOST_FILES) return file;
    watched[file] = (unsigned char)below(path);
    if (watched[file]) note('O', file, there_before, (flags & O_TRUNC) != 0, path, strlen(path));
    return file;
}

static int open_below(int (*call)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!folder[0] || !below(path)) {
        int file = call(path, flags, mode);
        if (file >= 0 && file < MOST_FILES) watched[file] = 0;
        return file;
    }
    pthread_mutex_lock(&guard);
    int file = -1;
    if (!fails(KIND_OPEN)) {
        int there = access(path, F_OK) == 0;
        file = opened(call(path, flags, mode), path, flags, there);
    }
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return file;
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_below(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_below(REAL(open64), path, flags, mode);
}

int close(int file) {
    if (!is_watched(file)) return REAL(close)(file);
    pthread_mutex_lock(&guard);
    note('C', file, 0, 0, "", 0);
    watched[file] = 0;
    int done = REAL(close)(file);
    pthread_mutex_unlock(&guard);
    return done;
}

/* A full disk takes a part of the first write it has no room for. */
static size_t taken(size_t length) { return failure == ENOSPC && lasting && length > 1 ? length / 2 : 0; }

static ssize_t put_at(int file, const void *from, size_t length, off64_t at) {
    static int half_written;
    pthread_mutex_lock(&guard);
    ssize_t done = -1;
    int failing = fails(KIND_WRITE);
    size_t part = failing && !half_written ? taken(length) : 0;
    half_written = failing;
    if (!failing || part) {
        done = REAL(pwrite64)(file, from, failing ? part : length, at);
        if (done > 0) note('W', file, at, done, from, (size_t)done);
    } else {
        errno = failure;
    }
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return done;
}

ssize_t pwrite64(int file, const void *from, size_t length, off64_t at) {
    return is_watched(file) ? put_at(file, from, length, at) : REAL(pwrite64)(file, from, length, at);
}

ssize_t pwrite(int file, const void *from, size_t length, off_t at) {
    return is_watched(file) ? put_at(file, from, length, at) : REAL(pwrite)(file, from, length, at);
}

ssize_t write(int file, const void *from, size_t length) {
    if (is_watched(file)) {
        off64_t at = lseek64(file, 0, SEEK_CUR);
        ssize_t done = put_at(file, from, length, at);
        if (done > 0) lseek64(file, at + done, SEEK_SET);
        return done;
    }
    if (file != STDOUT_FILENO || log_end < 0) return REAL(write)(file, from, length);
    /* What is reported stands in the log between the writes that came before and after it. */
    pthread_mutex_lock(&guard);
    ssize_t done = REAL(write)(file, from, length);
    if (done > 0) note('X', file, 0, 0, from, (size_t)done);
    pthread_mutex_unlock(&guard);
    return done;
}

static int cut(int (*call)(int, off64_t), int file, off64_t length) {
    if (!is_watched(file)) return call(file, length);
    pthread_mutex_lock(&guard);
    int done = fails(KIND_WRITE) ? -1 : call(file, length);
    if (!done) note('T', file, length, 0, "", 0);
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return done;
}

int ftruncate64(int file, off64_t length) { return cut(REAL(ftruncate64), file, length); }
int ftruncate(int file, off_t length) { return cut(REAL(ftruncate64), file, length); }

static int settle(int (*call)(int), int file) {
    if (!is_watched(file)) return call(file);
    pthread_mutex_lock(&guard);
    /* The data are in the page cache all the same: no real disk is waited for. */
    int done = fails(KIND_SYNC) ? -1 : 0;
    if (!done) note('S', file, 0, 0, "", 0);
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return done;
}

int fsync(int file) { return settle(REAL(fsync), file); }
int fdatasync(int file) { return settle(REAL(fdatasync), file); }

ssize_t read(int file, void *to, size_t length) {
    if (is_watched(file)) {
        pthread_mutex_lock(&guard);
        int failing = fails(KIND_READ);
        pthread_mutex_unlock(&guard);
        if (failing) {
            errno = failure;
            return -1;
        }
    }
    return REAL(read)(file, to, length);
}

static ssize_t get_at(ssize_t (*call)(int, void *, size_t, off64_t), int file, void *to, size_t length, off64_t at) {
    if (is_watched(file)) {
        pthread_mutex_lock(&guard);
        int failing = fails(KIND_READ);
        pthread_mutex_unlock(&guard);
        if (failing) {
            errno = failure;
            return -1;
        }
    }
    return call(file, to, length, at);
}

ssize_t pread64(int file, void *to, size_t length, off64_t at) {
    return get_at(REAL(pread64), file, to, length, at);
}

ssize_t pread(int file, void *to, size_t length, off_t at) { return get_at(REAL(pread64), file, to, length, at); }

static int removed(const char *path, int done) {
    if (!done) note('D', -1, 0, 0, path, strlen(path));
    return done;
}

int unlink(const char *path) {
    if (!below(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&guard);
    int done = removed(path, REAL(unlink)(path));
    pthread_mutex_unlock(&guard);
    return done;
}

int unlinkat(int place, const char *path, int flags) {
    if (place != AT_FDCWD || flags || !below(path)) return REAL(unlinkat)(place, path, flags);
    pthread_mutex_lock(&guard);
    int done = removed(path, REAL(unlinkat)(place, path, flags));
    pthread_mutex_unlock(&guard);
    return done;
}

static int named_anew(int (*call)(const char *, const char *), char kind, const char *from, const char *to) {
    if (!below(from) && !below(to)) return call(from, to);
    pthread_mutex_lock(&guard);
    int done = call(from, to);
    if (!done) {
        char both[2 * PATH_MAX];
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        note(kind, -1, 0, 0, both, (size_t)length);
    }
    int kept = errno;
    pthread_mutex_unlock(&guard);
    errno = kept;
    return done;
}

int rename(const char *from, const char *to) { return named_anew(REAL(rename), 'R', from, to); }
int link(const char *from, const char *to) { return named_anew(REAL(link), 'L', from, to); }

/* Whoever copies by it copies by write() where it is not to be had, and that is seen. */
ssize_t sendfile64(int to, int from, off64_t *at, size_t length) {
    if (is_watched(to)) {
        errno = EINVAL;
        return -1;
    }
    return REAL(sendfile64)(to, from, at, length);
}

ssize_t sendfile(int to, int from, off_t *at, size_t length) { return sendfile64(to, from, at, length); }
