/* Loaded into a server (LD_PRELOAD), keeps beside its data directory what a loss of power would leave
 * of it: the bytes that a file had when it was last synced, the names that a directory had. What was
 * written and never synced is not there, and a file whose directory was not synced has no name.
 *
 *   POWER_DATA    the data directory, absolute
 *   POWER_IMAGE   where to keep it: files/INODE with bytes, dirs/INODE with a line "KIND INODE NAME"
 *                 an entry, KIND being f or d
 *
 * A sync is recorded before it is done and made visible after it succeeded, before its caller is told.
 * Of two syncs of one file at a time the record that was made first never replaces the other: a disk
 * does not forget what it has.
 * What cannot be recorded ends the program: a test must not pass because nothing was looked at.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "power recorder: %s: %s\n", what, strerror(errno));
  _exit(86);
}

/* Whether the file is in the data directory. */
static int recorded(int fd) {
  const char *data = getenv("POWER_DATA");
  char link[64], path[PATH_MAX];
  if (!data) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  size_t prefix = strlen(data);
  return strncmp(path, data, prefix) == 0 && (path[prefix] == '/' || path[prefix] == 0);
}

static void copy_file(int fd, FILE *out) {
  static __thread char buffer[1 << 16];
  char link[64];
  /* A handle of its own: this one may be for writing only. */
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int in = open(link, O_RDONLY | O_CLOEXEC);
  if (in < 0) die("reading a file");
  for (;;) {
    ssize_t length = read(in, buffer, sizeof buffer);
    if (length < 0) die("reading a file");
    if (length == 0) break;
    if (fwrite(buffer, 1, (size_t)length, out) != (size_t)length) die("writing the image");
  }
  close(in);
}

static void copy_names(int fd, FILE *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  DIR *dir = opendir(link);
  if (!dir) die("reading a directory");
  for (struct dirent *entry; (entry = readdir(dir));) {
    struct stat found;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    /* One that is gone meanwhile is gone. */
    if (fstatat(dirfd(dir), entry->d_name, &found, AT_SYMLINK_NOFOLLOW)) continue;
    char kind = S_ISDIR(found.st_mode) ? 'd' : 'f';
    fprintf(out, "%c %llu %s\n", kind, (unsigned long long)found.st_ino, entry->d_name);
  }
  closedir(dir);
}

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static unsigned long records;

/* The newest record of each file that can be seen. */
#define SEEN (1 << 16)
static struct {
  ino_t inode;
  unsigned long record;
} seen[SEEN];

/* Notes, in order, that a record can be seen; not where a newer one can. */
static int newest(ino_t inode, unsigned long record) {
  for (size_t probe = 0; probe < SEEN; probe++) {
    size_t at = (inode + probe) % SEEN;
    if (seen[at].record && seen[at].inode != inode) continue;
    if (seen[at].record > record) return 0;
    seen[at].inode = inode;
    seen[at].record = record;
    return 1;
  }
  die("more files than there is room for");
  return 0;
}

static int synced(int fd, const char *name) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  if (!real) die("looking up the real call");
  struct stat what;
  if (!recorded(fd) || fstat(fd, &what)) return real(fd);

  const char *image = getenv("POWER_IMAGE");
  const char *kind = S_ISDIR(what.st_mode) ? "dirs" : "files";
  char fresh[PATH_MAX], target[PATH_MAX];
  snprintf(target, sizeof target, "%s/%s/%llu", image, kind, (unsigned long long)what.st_ino);
  pthread_mutex_lock(&order);
  unsigned long record = ++records;
  snprintf(fresh, sizeof fresh, "%s/fresh/%lu", image, record);
  FILE *out = fopen(fresh, "w");
  if (!out) die(fresh);
  if (S_ISDIR(what.st_mode))
    copy_names(fd, out);
  else
    copy_file(fd, out);
  if (fclose(out)) die("writing the image");
  pthread_mutex_unlock(&order);
  int result = real(fd);
  int error = errno;
  pthread_mutex_lock(&order);
  int shown = result == 0 && newest(what.st_ino, record);
  if (shown ? rename(fresh, target) : unlink(fresh)) die(target);
  pthread_mutex_unlock(&order);
  errno = error;
  return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
