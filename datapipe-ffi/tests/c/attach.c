/* Processes that attach to a pipe of another one, as head and as tail. All of them are forked before
 * the first call of the library. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 300, BLOCK = 4096 };

static size_t len_of(unsigned number)
{
    return 1 + number * 13 % BLOCK;
}

/* A process that has a socket to this one. */
struct peer {
    int socket;
    pid_t process;
};

static struct peer fork_peer(void (*run)(int socket))
{
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        CHECK(close(sockets[0]) == 0);
        run(sockets[1]);
        exit(0);
    }
    CHECK(close(sockets[1]) == 0);
    return (struct peer){sockets[0], process};
}

/* Waits for a process, which must exit with 0. */
static void join(struct peer peer)
{
    int status;
    CHECK(waitpid(peer.process, &status, 0) == peer.process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(close(peer.socket) == 0);
}

static dp_attachment *attached(int socket)
{
    dp_attachment *attachment = NULL;
    CHECK_STATUS(dp_attach(socket, 20000, &attachment), DP_OK);
    return attachment;
}

static dp_buffer *filled(dp_attachment *attachment, unsigned number, dp_output *out)
{
    dp_buffer *buffer = NULL;
    *out = (dp_output){.size = sizeof *out};
    CHECK_STATUS(dp_attachment_alloc(attachment, DP_FOREVER, &buffer, out), DP_OK);
    CHECK(out->len == 0 && out->capacity == BLOCK);
    out->len = len_of(number);
    memset(out->bytes, (int)number, out->len);
    out->user[3] = number;
    return buffer;
}

static void *use_elsewhere(void *attachment)
{
    dp_buffer *buffer;
    dp_output out = {.size = sizeof out};
    CHECK_STATUS(dp_attachment_alloc(attachment, 0, &buffer, &out), DP_ERR_THREAD);
    CHECK_STATUS(dp_attachment_free(attachment), DP_ERR_THREAD);
    return NULL;
}

/* Calls that are wrong for a head, which has two buffers. */
static void misuse(dp_attachment *head, dp_buffer *first, dp_output *out, dp_buffer *second)
{
    dp_buffer *buffer = NULL;
    dp_block block = {.size = sizeof block};
    dp_output other = *out;
    CHECK_STATUS(dp_attachment_receive(head, 0, &buffer, &block), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_finish(head), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_send(head, second, out), DP_ERR_ARGUMENT);
    other.len = BLOCK + 1;
    CHECK_STATUS(dp_attachment_send(head, first, &other), DP_ERR_ARGUMENT);
    CHECK_STATUS(dp_attachment_send(head, NULL, out), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_send(head, first, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_send(head, (dp_buffer *)(void *)head, out), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_attachment_drop((dp_attachment *)(void *)first, first), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_attachment_alloc(head, 0, NULL, out), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_alloc(head, 0, &buffer, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_alloc(NULL, 0, &buffer, out), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_drop(head, second), DP_OK);
    CHECK_STATUS(dp_attachment_drop(head, second), DP_ERR_STALE_HANDLE);
    CHECK_STATUS(dp_attachment_send(head, second, out), DP_ERR_STALE_HANDLE);
    CHECK_STATUS(dp_attach(-1, 0, &head), DP_ERR_SYSTEM);
    CHECK(dp_error_errno() == EBADF);
    CHECK_STATUS(dp_attach(STDOUT_FILENO, 0, NULL), DP_ERR_NULL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_elsewhere, head) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void send_all(int socket)
{
    dp_attachment *head = attached(socket);
    dp_output out, other;
    for (unsigned i = 0; i < BLOCKS; i++) {
        dp_buffer *buffer = filled(head, i, &out);
        if (i == 0)
            misuse(head, buffer, &out, filled(head, 7, &other));
        CHECK_STATUS(dp_attachment_send(head, buffer, &out), DP_OK);
        CHECK_STATUS(dp_attachment_send(head, buffer, &out), DP_ERR_STALE_HANDLE);
    }
    CHECK_STATUS(dp_attachment_finish(head), DP_OK);
    CHECK_STATUS(dp_attachment_finish(head), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_fail(head, "late"), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_free(head), DP_OK);
    CHECK_STATUS(dp_attachment_free(head), DP_ERR_STALE_HANDLE);
}

static void check_block(const dp_block *block, unsigned number)
{
    CHECK(block->user[3] == number && block->len == len_of(number) && block->number == number);
    for (size_t i = 0; i < block->len; i++)
        CHECK(block->bytes[i] == (uint8_t)number);
}

static void receive_all(int socket)
{
    dp_attachment *tail = attached(socket);
    unsigned number = 0;
    dp_buffer *buffer;
    dp_block block = {.size = sizeof block};
    dp_output out = {.size = sizeof out};
    CHECK_STATUS(dp_attachment_alloc(tail, 0, &buffer, &out), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_receive(tail, 0, &buffer, NULL), DP_ERR_NULL);
    for (dp_status status; (status = dp_attachment_receive(tail, 50, &buffer, &block)) != DP_END;) {
        if (status == DP_TIMED_OUT)
            continue;
        CHECK_STATUS(status, DP_OK);
        check_block(&block, number++);
        /* A tail cannot send, also not with the place that is right; the block stays as it is. */
        out.bytes = (uint8_t *)(uintptr_t)(block.bytes + block.len);
        CHECK_STATUS(dp_attachment_send(tail, buffer, &out), DP_ERR_STATE);
        check_block(&block, number - 1);
        CHECK_STATUS(dp_attachment_drop(tail, buffer), DP_OK);
    }
    CHECK(number == BLOCKS);
    CHECK_STATUS(dp_attachment_finish(tail), DP_OK);
    CHECK_STATUS(dp_attachment_free(tail), DP_OK);
}

/* Sends until the pipe stops. */
static void send_until_stopped(int socket)
{
    dp_attachment *head = attached(socket);
    dp_output out = {.size = sizeof out};
    dp_buffer *buffer;
    dp_status status;
    do {
        status = dp_attachment_alloc(head, DP_FOREVER, &buffer, &out);
        out.len = 1;
        if (status == DP_OK)
            status = dp_attachment_send(head, buffer, &out);
    } while (status == DP_OK);
    CHECK_STATUS(status, DP_ERR_CANCELLED);
    dp_attachment_free(head);
}

static void fail(int socket)
{
    dp_attachment *head = attached(socket);
    dp_output out;
    filled(head, 1, &out);
    CHECK_STATUS(dp_attachment_fail(head, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_attachment_fail(head, "the database is locked"), DP_OK);
    CHECK_STATUS(dp_attachment_finish(head), DP_ERR_STATE);
    CHECK_STATUS(dp_attachment_free(head), DP_OK);
}

static void leave(int socket)
{
    dp_output out;
    filled(attached(socket), 1, &out);
    /* The thread that has the attachment ends. */
}

static void die(int socket)
{
    dp_output out;
    filled(attached(socket), 1, &out);
    _exit(0);
}

/* The program that has the pipe refuses this process, or does not answer. */
static void be_refused(int socket)
{
    dp_attachment *attachment = NULL;
    CHECK_STATUS(dp_attach(socket, 20000, &attachment), DP_ERR_REFUSED);
    CHECK_STATUS(dp_attach(socket, 30, &attachment), DP_TIMED_OUT);
    CHECK(attachment == NULL);
}

static int32_t fill(void *state, dp_output *out)
{
    unsigned *next = state;
    if (*next == BLOCKS)
        return DP_ANSWER_END;
    out->len = len_of(*next);
    memset(out->bytes, (int)*next, out->len);
    out->user[3] = (*next)++;
    return DP_ANSWER_OK;
}

static int32_t take(void *state, const dp_block *block)
{
    unsigned *number = state;
    if (number)
        check_block(block, (*number)++);
    return DP_ANSWER_OK;
}

static const dp_stage unbound_head = {.kind = DP_STAGE_UNBOUND_HEAD, .patience_ms = 30000};
static const dp_stage unbound_tail = {.kind = DP_STAGE_UNBOUND_TAIL, .name = "elsewhere"};

static dp_pipe *start(dp_stage head, dp_stage tail)
{
    dp_pipe *pipe = NULL;
    dp_pipe_options options = {.size = sizeof options, .buffer_size = BLOCK, .buffers = 8};
    head.size = tail.size = sizeof head;
    CHECK_STATUS(dp_pipe_new(&options, &pipe), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_OK);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_HEAD, 0, 0), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    return pipe;
}

static void end(dp_pipe *pipe, dp_status expected)
{
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), expected);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

static void admit(dp_pipe *pipe, int32_t role, struct peer peer)
{
    CHECK_STATUS(dp_pipe_admit(pipe, role, peer.socket, 20000), DP_OK);
}

static void refuse(struct peer peer)
{
    unsigned next = 0;
    dp_pipe *pipe = start((dp_stage){.kind = DP_STAGE_HEAD, .fill = fill, .user = &next},
                          unbound_tail);
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_TAIL, sockets[0], 20), DP_TIMED_OUT);
    CHECK_STATUS(dp_pipe_admit(pipe, 3, sockets[0], 20), DP_ERR_ARGUMENT);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_TAIL, -1, 20), DP_ERR_SYSTEM);
    CHECK(close(sockets[1]) == 0);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_TAIL, sockets[0], DP_FOREVER), DP_ERR_SYSTEM);
    CHECK(close(sockets[0]) == 0);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_HEAD, peer.socket, 20000), DP_ERR_STATE);
    join(peer);
    CHECK_STATUS(dp_pipe_cancel(pipe), DP_OK);
    end(pipe, DP_ERR_CANCELLED);
}

static void failures(struct peer *peers)
{
    const dp_stage tail = {.kind = DP_STAGE_TAIL, .write = take};
    const char *texts[] = {"the database is locked", "it dropped its attachment without reporting a result", "died before the end of the stream"};
    for (int i = 0; i < 3; i++) {
        dp_pipe *pipe = start(unbound_head, tail);
        admit(pipe, DP_ROLE_HEAD, peers[i]);
        dp_status status = dp_pipe_wait(pipe, DP_FOREVER, NULL);
        CHECK(status >= 200 && status < 400 && strstr(dp_error_message(0), texts[i]));
        join(peers[i]);
        CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    }
    /* No process attaches. */
    dp_stage impatient = unbound_head;
    impatient.patience_ms = 10;
    dp_pipe *pipe = start(impatient, tail);
    dp_status status = dp_pipe_wait(pipe, DP_FOREVER, NULL);
    CHECK(status >= 200 && status < 400);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && argv[1]);
    struct peer heads[] = {fork_peer(send_all), fork_peer(send_all)};
    struct peer tails[] = {fork_peer(receive_all), fork_peer(receive_all)};
    struct peer stopped = fork_peer(send_until_stopped), refused = fork_peer(be_refused);
    struct peer failing[] = {fork_peer(fail), fork_peer(leave), fork_peer(die)};

    unsigned next = 0, taken = 0;
    dp_stage head = {.kind = DP_STAGE_HEAD, .fill = fill, .user = &next};
    dp_stage tail = {.kind = DP_STAGE_TAIL, .write = take, .user = &taken};
    dp_pipe *pipe = start(unbound_head, tail);
    admit(pipe, DP_ROLE_HEAD, heads[0]);
    CHECK_STATUS(dp_pipe_admit(pipe, DP_ROLE_HEAD, heads[0].socket, 20), DP_ERR_STATE);
    end(pipe, DP_OK);
    join(heads[0]);
    CHECK(taken == BLOCKS);

    pipe = start(head, unbound_tail);
    admit(pipe, DP_ROLE_TAIL, tails[0]);
    end(pipe, DP_OK);
    join(tails[0]);

    /* The head and the tail in two processes, and neither in this one. */
    pipe = start(unbound_head, unbound_tail);
    admit(pipe, DP_ROLE_TAIL, tails[1]);
    admit(pipe, DP_ROLE_HEAD, heads[1]);
    end(pipe, DP_OK);
    join(heads[1]);
    join(tails[1]);

    tail.user = NULL;
    pipe = start(unbound_head, tail);
    admit(pipe, DP_ROLE_HEAD, stopped);
    CHECK_STATUS(dp_pipe_wait(pipe, 20, NULL), DP_TIMED_OUT);
    CHECK_STATUS(dp_pipe_cancel(pipe), DP_OK);
    end(pipe, DP_ERR_CANCELLED);
    join(stopped);

    refuse(refused);
    failures(failing);
    return 0;
}
