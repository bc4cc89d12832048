/*
 * A database dump whose two ends are two programs: one keeps the stream in a file, and the other
 * one, the database, attaches to its pipe as the head and writes its rows into the buffers of the
 * pipe. No byte is copied between the two.
 *
 *     cc -o dump dump.c $(pkg-config --cflags --libs datapipe)
 *     dump keep SOCKET > FILE          listens on SOCKET for one database, and keeps what it sends
 *     dump send SOCKET ROWS            the database: sends ROWS rows
 *
 * If the database fails, or its process dies, the pipe stops, and "keep" exits with 1: what it has
 * written is not a whole dump. If "keep" dies, every call of the database returns an error.
 *
 * Exit codes: 0 for a whole dump, 1 for a failure, 2 for wrong usage.
 */
#include <datapipe.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Time in which the database must come. */
#define PATIENCE_MS 60000

static int failed(const char *what)
{
    fprintf(stderr, "dump: %s: %s\n", what, dp_error_message(0));
    return 1;
}

static int system_failed(const char *what)
{
    fprintf(stderr, "dump: %s: %s\n", what, strerror(errno));
    return 1;
}

/* A socket at a path: one that listens, or one that is connected. -1 with errno on failure. */
static int socket_at(const char *path, int listens)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    const struct sockaddr *at = (const struct sockaddr *)&address;
    int done = listens ? bind(fd, at, sizeof address) : connect(fd, at, sizeof address);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    if (done < 0 || (listens && (listen(fd, 1) < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO,
                                                                 &patience, sizeof patience)))) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* ---- the program that keeps the dump ---- */

static dp_cancel *token;

static void on_signal(int signal)
{
    (void)signal;
    dp_cancel_trigger(token); /* safe in a signal handler */
}

static int32_t on_event(void *user, const dp_event *event)
{
    (void)user;
    if (event->kind == DP_EVENT_ATTACHED)
        fprintf(stderr, "dump: process %u is the database\n", event->process);
    return 0;
}

static int run(dp_pipe *pipe, int listener)
{
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_UNBOUND_HEAD, .name = "database",
                     .patience_ms = PATIENCE_MS};
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_WRITE_DESCRIPTOR,
                     .descriptor = STDOUT_FILENO};
    if (dp_pipe_add(pipe, &head) != DP_OK || dp_pipe_add(pipe, &tail) != DP_OK ||
        dp_pipe_start(pipe) != DP_OK)
        return failed("cannot start");
    fprintf(stderr, "dump: waiting for the database\n");
    int peer = accept(listener, NULL, NULL); /* as long as the pipe waits for the database */
    if (peer < 0)
        return system_failed("no database has come");
    dp_status status = dp_pipe_admit(pipe, DP_ROLE_HEAD, peer, 10000);
    close(peer); /* the process has the pipe's memory now, and needs the socket no more */
    if (status != DP_OK)
        return status == DP_TIMED_OUT ? (fprintf(stderr, "dump: no answer\n"), 1)
                                      : failed("cannot admit the database");
    dp_pipe_result result = {.size = sizeof result};
    if (dp_pipe_wait(pipe, DP_FOREVER, &result) != DP_OK)
        return failed("the dump is not whole");
    fprintf(stderr, "dump: %llu bytes\n", (unsigned long long)result.bytes_out);
    return 0;
}

static int keep(const char *path)
{
    if (dp_cancel_new(&token) != DP_OK)
        return failed("cannot start");
    /* Without SA_RESTART a signal also ends the wait for a connection. */
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    umask(077); /* only this user may connect */
    int listener = socket_at(path, 1);
    if (listener < 0)
        return system_failed(path);
    dp_pipe_options options = {.size = sizeof options, .label = "dump", .cancel = token,
                               .buffer_size = 1 << 20, .event = on_event};
    dp_pipe *pipe;
    int code = 1;
    if (dp_pipe_new(&options, &pipe) == DP_OK) {
        code = run(pipe, listener);
        dp_pipe_free(pipe);
    } else {
        failed("cannot start");
    }
    close(listener);
    unlink(path);
    return code;
}

/* ---- the database ---- */

/* Writes rows from *next on into a buffer, as far as they fit. Returns the length. */
static size_t put_rows(char *to, size_t capacity, unsigned long *next, unsigned long rows)
{
    char row[64];
    size_t len = 0;
    for (; *next < rows; (*next)++) {
        size_t one = (size_t)snprintf(row, sizeof row, "%lu,row %lu\n", *next, *next * 7);
        if (one > capacity - len)
            break;
        memcpy(to + len, row, one);
        len += one;
    }
    return len;
}

static int send_rows(dp_attachment *pipe, unsigned long rows)
{
    for (unsigned long next = 0; next < rows;) {
        dp_buffer *buffer;
        dp_output out = {.size = sizeof out};
        if (dp_attachment_alloc(pipe, DP_FOREVER, &buffer, &out) != DP_OK)
            return failed("no buffer");
        out.len = put_rows((char *)out.bytes, out.capacity, &next, rows);
        if (dp_attachment_send(pipe, buffer, &out) != DP_OK)
            return failed("cannot send");
    }
    /* Only now is the dump whole: a process that dies before this call stops the pipe. */
    return dp_attachment_finish(pipe) == DP_OK ? 0 : failed("cannot finish");
}

static int send_dump(const char *path, unsigned long rows)
{
    int fd = socket_at(path, 0);
    if (fd < 0)
        return system_failed(path);
    dp_attachment *pipe;
    dp_status status = dp_attach(fd, 10000, &pipe);
    close(fd);
    if (status != DP_OK)
        return status == DP_TIMED_OUT ? (fprintf(stderr, "dump: no answer\n"), 1)
                                      : failed("cannot attach");
    int code = send_rows(pipe, rows);
    dp_attachment_free(pipe);
    return code;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "keep") == 0)
        return keep(argv[2]);
    if (argc == 4 && strcmp(argv[1], "send") == 0)
        return send_dump(argv[2], strtoul(argv[3], NULL, 10));
    fprintf(stderr, "usage: dump keep SOCKET > FILE | dump send SOCKET ROWS\n");
    return 2;
}
