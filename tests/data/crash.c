/* Put before the C library by LD_PRELOAD, so that a test can end a program, or fail its disk,
 * at an exact moment: at the n-th operation that changes a file in one folder, or that sends
 * bytes to another host. CRASH_FOLDER names the folder, CRASH_AT is n, CRASH_MODE says what
 * happens there:
 *
 *   before, after  SIGKILL, the operation not done or done
 *   torn           SIGKILL after half of what was to be written; before what writes nothing
 *   stop           SIGSTOP before it, and only what is sent counts; the program goes on when
 *                  it is told to
 *   full           the disk has no room: it and every later write fails with ENOSPC
 *   broken         the disk is broken: it and everything after fails with EIO, fsync too
 *   modeless       the file system knows no permissions: each change of them fails with EPERM
 *
 * Where writes fail, the file CRASH_SEEN is made at the first of them: the program need not
 * end by it.
 *
 * The -shm file of SQLite counts only where writes fail: it is no part of what survives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long operations;

static const char *mode(void) {
    const char *mode = getenv("CRASH_MODE");
    return mode ? mode : "";
}

static int fails(void) { return !strcmp(mode(), "full") || !strcmp(mode(), "broken"); }

static int is_ours(const char *path) {
    const char *folder = getenv("CRASH_FOLDER");
    size_t length = strlen(path);
    if (!folder || !strcmp(mode(), "stop") || (path[0] == '/' && strncmp(path, folder, strlen(folder)))) return 0;
    return fails() || length < 4 || strcmp(path + length - 4, "-shm");
}

static int watched(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || path[0] != '/') return 0;
    path[length] = 0;
    return is_ours(path);
}

static int goes_out(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    if (fails() || getsockname(fd, (struct sockaddr *)&name, &length)) return 0;
    return name.ss_family == AF_INET || name.ss_family == AF_INET6;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether the operation that comes now is the one, or after it where the disk fails. */
static int is_due(void) {
    const char *at = getenv("CRASH_AT");
    long number = atomic_fetch_add(&operations, 1) + 1, target = at ? atol(at) : 0;
    return target && (fails() ? number >= target : number == target);
}

static void tell(void) {
    int (*make)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    const char *seen = getenv("CRASH_SEEN");
    if (seen) close(make(seen, O_CREAT | O_WRONLY, 0600));
}

/* What is done instead of an operation that is due; 0: it is done all the same. */
static int instead(int writes) {
    if (fails()) tell();
    if (!strcmp(mode(), "full")) {
        errno = ENOSPC;
        return writes;
    }
    if (!strcmp(mode(), "broken")) {
        errno = EIO;
        return 1;
    }
    if (!strcmp(mode(), "stop")) kill(getpid(), SIGSTOP);
    if (!strcmp(mode(), "before") || (!strcmp(mode(), "torn") && !writes)) die();
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* `partly` does the first half of it. */
#define GUARDED(type, is_watched, writes, whole, partly)                                          \
    if (!(is_watched) || !is_due()) return whole;                                                 \
    if (instead(writes)) return -1;                                                               \
    if (!strcmp(mode(), "torn")) {                                                                \
        partly;                                                                                   \
        die();                                                                                    \
    }                                                                                             \
    type result = whole;                                                                          \
    if (!strcmp(mode(), "after")) die();                                                          \
    return result

ssize_t write(int fd, const void *bytes, size_t length) {
    GUARDED(ssize_t, watched(fd), 1, REAL(write)(fd, bytes, length),
            REAL(write)(fd, bytes, length / 2));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    GUARDED(ssize_t, watched(fd), 1, REAL(pwrite)(fd, bytes, length, at),
            REAL(pwrite)(fd, bytes, length / 2, at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    GUARDED(ssize_t, watched(fd), 1, REAL(pwrite64)(fd, bytes, length, at),
            REAL(pwrite64)(fd, bytes, length / 2, at));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    GUARDED(ssize_t, goes_out(fd) || watched(fd), 1, REAL(writev)(fd, parts, count),
            REAL(write)(fd, parts[0].iov_base, parts[0].iov_len));
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    GUARDED(ssize_t, goes_out(fd), 1, REAL(send)(fd, bytes, length, flags),
            REAL(send)(fd, bytes, length / 2, flags));
}

int fsync(int fd) { GUARDED(int, watched(fd), 0, REAL(fsync)(fd), (void)0); }

int fdatasync(int fd) { GUARDED(int, watched(fd), 0, REAL(fdatasync)(fd), (void)0); }

int ftruncate(int fd, off_t length) {
    GUARDED(int, watched(fd), length > 0, REAL(ftruncate)(fd, length), (void)0);
}

int ftruncate64(int fd, off64_t length) {
    GUARDED(int, watched(fd), length > 0, REAL(ftruncate64)(fd, length), (void)0);
}

int unlink(const char *path) { GUARDED(int, is_ours(path), 0, REAL(unlink)(path), (void)0); }

int rename(const char *from, const char *to) {
    GUARDED(int, is_ours(to), 0, REAL(rename)(from, to), (void)0);
}

int fchmod(int fd, mode_t bits) {
    if (!strcmp(mode(), "modeless")) {
        errno = EPERM;
        return -1;
    }
    return REAL(fchmod)(fd, bits);
}

/* Only the making of a file changes a folder. */
static int makes(const char *path, int flags) {
    return (flags & O_CREAT) && is_ours(path) && access(path, F_OK);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t bits = mode_of(flags, rest);
    va_end(rest);
    GUARDED(int, makes(path, flags), 1, REAL(open)(path, flags, bits), (void)0);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t bits = mode_of(flags, rest);
    va_end(rest);
    GUARDED(int, makes(path, flags), 1, REAL(open64)(path, flags, bits), (void)0);
}
