/* Checks of the C programs: a failed one ends the program with its line and the last error. */
#ifndef CHECK_H
#define CHECK_H

#include <datapipe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            const char *why = dp_error_message(0);                                                 \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition,         \
                    why ? why : "none");                                                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Checks a status, and shows the one that was returned. */
#define CHECK_STATUS(call, expected)                                                               \
    do {                                                                                           \
        dp_status status_ = (call);                                                                \
        if (status_ != (expected)) {                                                               \
            const char *why = dp_error_message(0);                                                 \
            fprintf(stderr, "%s:%d: %s: %s, expected %s; last error: %s\n", __FILE__, __LINE__,    \
                    #call, dp_status_name(status_), #expected, why ? why : "none");                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Joins a directory and a name in one of many static buffers. The directory may be in another one,
 * which a compiler that inlines the function takes for the same. */
__attribute__((noinline, unused)) static const char *at(const char *directory, const char *name)
{
    static char paths[256][1024];
    static unsigned next;
    char *path = paths[next++ % 256];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

/* Writes a file. */
static inline void put(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
}

/* Checks the content of a file. */
static inline void check_file(const char *path, const void *bytes, size_t len)
{
    char *found = malloc(len + 1);
    FILE *file = fopen(path, "rb");
    CHECK(found && file && fread(found, 1, len + 1, file) == len && fclose(file) == 0);
    CHECK(memcmp(found, bytes, len) == 0);
    free(found);
}

#endif
