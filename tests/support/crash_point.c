/* Kills the process, as a power cut would, right before its Nth change to the files under a folder.
 *
 * Loaded into kbr by LD_PRELOAD, so that kbr itself knows nothing of it. Every call that changes what a crash leaves
 * behind counts: files and folders made, bytes written, names linked, renamed and removed, and the syncs between them.
 * CRASH_UNDER names the folder, CRASH_AT the number of the call, from 1.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static void count(const char *path) {
    const char *folder = getenv("CRASH_UNDER");
    const char *at = getenv("CRASH_AT");
    if (!folder || !at || !path || strncmp(path, folder, strlen(folder)) != 0) return;
    if (atomic_fetch_add(&calls, 1) + 1 == atol(at)) kill(getpid(), SIGKILL);
}

static void count_file(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    count(path);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (flags & O_CREAT) count(path);
    REAL(open64);
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (flags & O_CREAT) count(path);
    REAL(open);
    return real(path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    count(path);
    REAL(mkdir);
    return real(path, mode);
}

ssize_t write(int file, const void *bytes, size_t length) {
    count_file(file);
    REAL(write);
    return real(file, bytes, length);
}

ssize_t writev(int file, const struct iovec *slices, int number) {
    count_file(file);
    REAL(writev);
    return real(file, slices, number);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t position) {
    count_file(file);
    REAL(pwrite64);
    return real(file, bytes, length, position);
}

int fsync(int file) {
    count_file(file);
    REAL(fsync);
    return real(file);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    count(to);
    REAL(linkat);
    return real(from_folder, from, to_folder, to, flags);
}

int link(const char *from, const char *to) {
    count(to);
    REAL(link);
    return real(from, to);
}

int rename(const char *from, const char *to) {
    count(to);
    REAL(rename);
    return real(from, to);
}

int unlink(const char *path) {
    count(path);
    REAL(unlink);
    return real(path);
}
