/* Processes that attach to a pipe of a daemon, as its head and as its tail. The file `pipe` in the
 * folder has the name of the pipe, and `socket` is the daemon's. */
#include "check.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 300, BLOCK = 4096 };

static const char *dir;
static char name[256];

static dp_status attach(int32_t role, dp_attachment **attachment)
{
    dp_daemon_seat seat = {.size = sizeof seat, .socket = at(dir, "socket"), .pipe = name,
                           .role = role};
    return dp_attach_by_daemon(&seat, attachment);
}

/* Reports that the seat is taken, and waits for the other one. */
static void meet(int socket)
{
    char byte = 0;
    CHECK(write(socket, "x", 1) == 1 && read(socket, &byte, 1) == 1);
}

static void send_all(int socket)
{
    dp_attachment *attachment = NULL;
    CHECK_STATUS(attach(DP_ROLE_HEAD, &attachment), DP_OK);
    meet(socket);
    for (unsigned number = 0; number < BLOCKS; number++) {
        dp_buffer *buffer = NULL;
        dp_output out = {.size = sizeof out};
        CHECK_STATUS(dp_attachment_alloc(attachment, DP_FOREVER, &buffer, &out), DP_OK);
        CHECK(out.capacity == BLOCK);
        memset(out.bytes, (int)number, BLOCK);
        out.len = 1 + number % BLOCK;
        CHECK_STATUS(dp_attachment_send(attachment, buffer, &out), DP_OK);
    }
    CHECK_STATUS(dp_attachment_finish(attachment), DP_OK);
    CHECK_STATUS(dp_attachment_free(attachment), DP_OK);
}

static void receive_all(int socket)
{
    dp_attachment *attachment = NULL;
    CHECK_STATUS(attach(DP_ROLE_TAIL, &attachment), DP_OK);
    meet(socket);
    dp_buffer *buffer = NULL;
    dp_block block = {.size = sizeof block};
    unsigned number = 0;
    dp_status status;
    while ((status = dp_attachment_receive(attachment, DP_FOREVER, &buffer, &block)) == DP_OK) {
        CHECK(block.len == 1 + number % BLOCK && block.bytes[block.len - 1] == (uint8_t)number);
        CHECK_STATUS(dp_attachment_drop(attachment, buffer), DP_OK);
        number++;
    }
    CHECK_STATUS(status, DP_END);
    CHECK(number == BLOCKS);
    CHECK_STATUS(dp_attachment_finish(attachment), DP_OK);
    CHECK_STATUS(dp_attachment_free(attachment), DP_OK);
}

/* Forks a process with a socket to this one. */
static pid_t fork_peer(void (*run)(int socket), int *socket)
{
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        run(sockets[1]);
        exit(0);
    }
    CHECK(close(sockets[1]) == 0);
    *socket = sockets[0];
    return process;
}

/* A socket at which nothing answers. */
static int silent(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(fd, 8) == 0);
    return fd;
}

static void errors(void)
{
    dp_attachment *attachment = NULL;
    dp_daemon_seat seat = {.size = sizeof seat, .pipe = name, .role = DP_ROLE_HEAD,
                           .socket = at(dir, "nowhere")};
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_NOT_FOUND);
    CHECK(strstr(dp_error_message(0), "no daemon answers at"));
    seat.socket = at(dir, "socket");
    seat.pipe = "host.1.999";
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_NOT_FOUND);
    CHECK(strstr(dp_error_message(0), "host.1.999"));
    CHECK_STATUS(attach(DP_ROLE_HEAD, &attachment), DP_ERR_STATE);
    CHECK_STATUS(attach(DP_ROLE_TAIL, &attachment), DP_ERR_STATE);
    CHECK_STATUS(attach(3, &attachment), DP_ERR_ARGUMENT);
    CHECK_STATUS(dp_attach_by_daemon(NULL, &attachment), DP_ERR_NULL);
    CHECK_STATUS(dp_attach_by_daemon(&seat, NULL), DP_ERR_NULL);
    seat.pipe = NULL;
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_NULL);
    seat.pipe = name;
    seat.socket = NULL;
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_NULL);

    int socket = silent(at(dir, "silent"));
    seat.socket = at(dir, "silent");
    seat.timeout_ms = 20;
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_TIMED_OUT);
    seat.timeout_ms = 0;
    CHECK_STATUS(dp_cancel_new(&seat.cancel), DP_OK);
    CHECK_STATUS(dp_cancel_trigger(seat.cancel), DP_OK);
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_CANCELLED);
    CHECK_STATUS(dp_cancel_free(seat.cancel), DP_OK);
    CHECK_STATUS(dp_attach_by_daemon(&seat, &attachment), DP_ERR_STALE_HANDLE);
    CHECK(close(socket) == 0 && attachment == NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    dir = argv[1];
    FILE *file = fopen(at(dir, "pipe"), "rb");
    CHECK(file && fread(name, 1, sizeof name - 1, file) > 0 && fclose(file) == 0);
    int sockets[2];
    pid_t peers[] = {fork_peer(send_all, &sockets[0]), fork_peer(receive_all, &sockets[1])};
    char byte;
    for (int i = 0; i < 2; i++)
        CHECK(read(sockets[i], &byte, 1) == 1);
    errors();
    for (int i = 0; i < 2; i++)
        CHECK(write(sockets[i], "x", 1) == 1);
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(peers[i], &status, 0) == peers[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && close(sockets[i]) == 0);
    }
    return 0;
}
