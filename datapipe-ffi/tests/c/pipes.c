/* Pipes of stages in C: each kind, states of instances, errors, a wait with a timeout, cancellation,
 * and handles that are not pipes. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { BLOCKS = 200, BLOCK = 4096 };

struct counts {
    atomic_int made, dropped, finished, next;
    uint64_t written, sum;
    int64_t answer;
    dp_pipe *pipe;
};

static int32_t fill(void *state, dp_output *out)
{
    struct counts *counts = state;
    CHECK(out->size == sizeof *out && out->len == 0 && out->capacity == BLOCK);
    int number = counts->next++;
    if (number == BLOCKS)
        return DP_ANSWER_END;
    memset(out->bytes, 'a' + number % 26, BLOCK);
    out->len = BLOCK - (size_t)number;
    out->user[0] = (uint64_t)number;
    return DP_ANSWER_OK;
}

/* The state of an instance counts its blocks. */
struct upper {
    struct counts *counts;
    unsigned blocks;
};

static int32_t make_upper(void *user, uint32_t instance, void **state)
{
    struct counts *counts = user;
    if (counts->answer == -1000 && instance == 0)
        return -ENOMEM;
    /* It may call the library, also for its own pipe, which may not count as started yet. */
    dp_pipe_status status = {.size = sizeof status};
    if (counts->pipe && dp_pipe_get_status(counts->pipe, &status) != DP_OK)
        CHECK(dp_error_status() == DP_ERR_STATE);
    struct upper *upper = calloc(1, sizeof *upper);
    CHECK(upper);
    upper->counts = counts;
    counts->made++;
    *state = upper;
    return DP_ANSWER_OK;
}

static int32_t drop_upper(void *state)
{
    struct upper *upper = state;
    upper->counts->dropped++;
    free(upper);
    return 0;
}

static int32_t finish_upper(void *state)
{
    struct upper *upper = state;
    upper->counts->finished++;
    return DP_ANSWER_OK;
}

static int32_t upper(void *state, const dp_block *block, dp_output *out)
{
    struct upper *upper = state;
    upper->blocks++;
    CHECK(block->size == sizeof *block && out->user[0] == block->user[0]);
    CHECK(block->number == block->user[0] && block->len == BLOCK - block->number);
    if (block->number % 10 == 3)
        return DP_ANSWER_DROP;
    if (block->number % 10 == 4)
        return DP_ANSWER_SEND_INPUT;
    for (size_t i = 0; i < block->len; i++)
        out->bytes[i] = (uint8_t)(block->bytes[i] - 'a' + 'A');
    out->len = block->len;
    return DP_ANSWER_OK;
}

static int32_t shorten(void *state, dp_output *block)
{
    (void)state;
    CHECK(block->len > 0 && block->capacity >= BLOCK);
    block->len = 1;
    block->user[1] = 7;
    return DP_ANSWER_OK;
}

static int32_t inspect(void *state, const dp_block *block)
{
    (void)state;
    if (block->user[0] == 5)
        return DP_ANSWER_MARK;
    return block->user[0] == 6 ? DP_ANSWER_REJECT : DP_ANSWER_OK;
}

static int32_t take(void *state, const dp_block *block)
{
    struct counts *counts = state;
    if (block->user[0] == 6) {
        CHECK(block->len == 0); /* rejected */
        return DP_ANSWER_OK;
    }
    CHECK(block->len == 1 && block->user[1] == 7);
    char first = block->user[0] % 10 == 4 ? 'a' : 'A';
    CHECK(block->bytes[0] == first + (char)(block->user[0] % 26));
    counts->written++;
    counts->sum += block->user[0];
    return DP_ANSWER_OK;
}

static int32_t finish_tail(void *state)
{
    struct counts *counts = state;
    counts->finished += 100;
    return DP_ANSWER_OK;
}

static dp_pipe *new_pipe(dp_cancel *token)
{
    dp_pipe *pipe = NULL;
    dp_pipe_options options = {.size = sizeof options, .label = "of C", .buffer_size = BLOCK,
                               .cancel = token};
    CHECK_STATUS(dp_pipe_new(&options, &pipe), DP_OK);
    return pipe;
}

static void add(dp_pipe *pipe, dp_stage stage)
{
    stage.size = sizeof stage;
    CHECK_STATUS(dp_pipe_add(pipe, &stage), DP_OK);
}

static void each_kind(void)
{
    struct counts counts = {.sum = 0};
    dp_pipe *pipe = counts.pipe = new_pipe(NULL);
    add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill, .user = &counts, .name = "count"});
    add(pipe, (dp_stage){.kind = DP_STAGE_TRANSFORM, .transform = upper, .make = make_upper,
                         .drop = drop_upper, .finish = finish_upper, .user = &counts,
                         .instances = 3, .name = "upper"});
    add(pipe, (dp_stage){.kind = DP_STAGE_IN_PLACE, .change = shorten, .instances = 2});
    add(pipe, (dp_stage){.kind = DP_STAGE_INSPECT, .inspect = inspect});
    add(pipe, (dp_stage){.kind = DP_STAGE_ZSTD});
    add(pipe, (dp_stage){.kind = DP_STAGE_DECOMPRESS, .instances = 2});
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = take, .finish = finish_tail,
                         .user = &counts});
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    dp_pipe_result result = {.size = sizeof result};
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, &result), DP_INCOMPLETE);
    CHECK(result.marked == 1 && result.rejected == 1 && result.problems == 1);
    CHECK(counts.made == 3 && counts.dropped == 3 && counts.finished == 103);
    uint64_t sum = 0, written = 0;
    for (uint64_t i = 0; i < BLOCKS; i++)
        if (i % 10 != 3 && i != 6)
            sum += i, written++;
    CHECK(counts.written == written && counts.sum == sum);

    /* The outcome stays, and so does the last status. */
    CHECK_STATUS(dp_pipe_wait(pipe, 0, NULL), DP_INCOMPLETE);
    dp_pipe_status status = {.size = sizeof status};
    CHECK_STATUS(dp_pipe_get_status(pipe, &status), DP_OK);
    CHECK(status.running == 0 && status.stages >= 7 && status.bytes_in == result.bytes_in);
    CHECK_STATUS(dp_pipe_start(pipe), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_free(pipe), DP_ERR_STALE_HANDLE);
    CHECK_STATUS(dp_pipe_wait(pipe, 0, NULL), DP_ERR_STALE_HANDLE);
}

static int32_t fill_slowly(void *state, dp_output *out)
{
    struct counts *counts = state;
    counts->next++;
    usleep(1000);
    out->len = 1;
    return DP_ANSWER_OK;
}

static int32_t fill_wrongly(void *state, dp_output *out)
{
    struct counts *counts = state;
    out->len = counts->answer == 0 ? out->capacity + 1 : 1;
    return (int32_t)counts->answer;
}

static int32_t ignore(void *state, const dp_block *block)
{
    (void)state;
    (void)block;
    return DP_ANSWER_OK;
}

/* Waits in a function of a stage, which would wait for itself. */
static int32_t wait_inside(void *state, const dp_block *block)
{
    struct counts *counts = state;
    (void)block;
    CHECK_STATUS(dp_pipe_wait(counts->pipe, DP_FOREVER, NULL), DP_ERR_REENTRANT);
    CHECK_STATUS(dp_pipe_free(counts->pipe), DP_ERR_REENTRANT);
    CHECK_STATUS(dp_pipe_cancel(counts->pipe), DP_OK);
    return DP_ANSWER_OK;
}

static void errors(void)
{
    int64_t answers[] = {-EIO, 1000, 0, -100000};
    dp_status expected[] = {DP_ERR_SYSTEM, DP_ERR_STAGE, DP_ERR_STAGE, DP_ERR_STAGE};
    for (int i = 0; i < 4; i++) {
        struct counts counts = {.answer = answers[i]};
        dp_pipe *pipe = new_pipe(NULL);
        add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill_wrongly, .user = &counts,
                             .name = "wrong"});
        add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = ignore});
        CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
        CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), expected[i]);
        CHECK(strstr(dp_error_message(0), "wrong") && dp_error_errno() == (i == 0 ? EIO : 0));
        CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    }
    struct counts counts = {.answer = -1000};
    dp_pipe *pipe = new_pipe(NULL);
    add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill, .user = &counts});
    add(pipe, (dp_stage){.kind = DP_STAGE_TRANSFORM, .transform = upper, .make = make_upper,
                         .drop = drop_upper, .user = &counts, .instances = 2});
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = ignore});
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_MEMORY);
    CHECK(counts.made == 1 && counts.dropped == 1);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

static void order_of_calls(void)
{
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill_slowly};
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_TAIL, .write = ignore};
    struct counts counts = {.sum = 0};
    head.user = &counts;
    dp_pipe *pipe = new_pipe(NULL);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_start(pipe), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_wait(pipe, 0, NULL), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_cancel(pipe), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_start(pipe), DP_ERR_STATE);
    dp_stage wrong = {.size = sizeof wrong, .kind = 99};
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_ARGUMENT);
    wrong.kind = DP_STAGE_TRANSFORM;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_NULL);
    wrong.kind = DP_STAGE_ZSTD;
    wrong.level = 23;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_ARGUMENT);
    CHECK_STATUS(dp_pipe_add(pipe, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_ERR_STATE);

    dp_pipe_result result = {.size = sizeof result, .bytes_in = 77};
    CHECK_STATUS(dp_pipe_wait(pipe, 20, &result), DP_TIMED_OUT);
    CHECK(result.bytes_in == 77);
    dp_pipe_status status = {.size = sizeof status};
    CHECK_STATUS(dp_pipe_get_status(pipe, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_get_status(pipe, &status), DP_OK);
    CHECK(status.running == 1 && status.buffers > 0);
    CHECK_STATUS(dp_pipe_cancel(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, &result), DP_ERR_CANCELLED);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);

    /* A pipe that runs is stopped when it is freed; one that was not started is just freed. */
    pipe = new_pipe(NULL);
    add(pipe, head);
    add(pipe, tail);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_free(new_pipe(NULL)), DP_OK);

    pipe = new_pipe(NULL);
    counts.pipe = pipe;
    add(pipe, head);
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = wait_inside, .user = &counts});
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_CANCELLED);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);

    /* A pool that cannot work is refused, and the pipe has no status. */
    dp_pipe_options options = {.size = sizeof options, .buffers = 1};
    CHECK_STATUS(dp_pipe_new(&options, &pipe), DP_OK);
    add(pipe, head);
    add(pipe, (dp_stage){.kind = DP_STAGE_ZSTD, .instances = 4});
    add(pipe, tail);
    CHECK_STATUS(dp_pipe_start(pipe), DP_ERR_REFUSED);
    CHECK_STATUS(dp_pipe_wait(pipe, 0, NULL), DP_ERR_REFUSED);
    CHECK_STATUS(dp_pipe_get_status(pipe, &status), DP_ERR_REFUSED);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

static void tokens_and_handles(void)
{
    struct counts counts = {.sum = 0};
    dp_cancel *token;
    CHECK_STATUS(dp_cancel_new(&token), DP_OK);
    dp_pipe *pipe = new_pipe(token);
    add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill_slowly, .user = &counts});
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = ignore});
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_cancel_trigger(token), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_CANCELLED);
    CHECK_STATUS(dp_pipe_free((dp_pipe *)(void *)token), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_cancel_free((dp_cancel *)(void *)pipe), DP_ERR_HANDLE_KIND);
    CHECK_STATUS(dp_pipe_start(NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_new(NULL, NULL), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    CHECK_STATUS(dp_cancel_free(token), DP_OK);
}

static void descriptors(const char *dir)
{
    char text[50000];
    memset(text, 'x', sizeof text);
    put(at(dir, "in"), text, sizeof text);
    int in = open(at(dir, "in"), O_RDONLY), out = open(at(dir, "out"), O_WRONLY | O_CREAT, 0600);
    dp_pipe *pipe = new_pipe(NULL);
    add(pipe, (dp_stage){.kind = DP_STAGE_READ_DESCRIPTOR, .descriptor = in});
    add(pipe, (dp_stage){.kind = DP_STAGE_DEFLATE, .instances = 2});
    add(pipe, (dp_stage){.kind = DP_STAGE_DECOMPRESS});
    add(pipe, (dp_stage){.kind = DP_STAGE_WRITE_DESCRIPTOR, .descriptor = out});
    CHECK(close(in) == 0 && close(out) == 0); /* the pipe has its own */
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_OK);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    check_file(at(dir, "out"), text, sizeof text);
}

static void *wait_for(void *pipe)
{
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_CANCELLED);
    return NULL;
}

static void several_threads(void)
{
    struct counts counts = {.sum = 0};
    dp_pipe *pipe = new_pipe(NULL);
    add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill_slowly, .user = &counts});
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = ignore});
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_for, pipe) == 0);
    while (counts.next < 20)
        usleep(1000);
    CHECK_STATUS(dp_pipe_cancel(pipe), DP_OK);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

/* A stage whose first instance takes its time to be made, in the start of the pipe. */
struct slow {
    atomic_int making, made, dropped;
};

static int32_t make_slowly(void *user, uint32_t instance, void **state)
{
    struct slow *slow = user;
    (void)instance;
    slow->making++;
    usleep(50000);
    slow->made++;
    *state = slow;
    return DP_ANSWER_OK;
}

static int32_t drop_slow(void *state)
{
    ((struct slow *)state)->dropped++;
    return 0;
}

static int32_t fill_without_end(void *state, dp_output *out)
{
    (void)state;
    out->len = 1;
    return DP_ANSWER_OK;
}

static void *start_it(void *pipe)
{
    dp_status status = dp_pipe_start(pipe);
    CHECK(status == DP_OK || status == DP_ERR_CANCELLED);
    return NULL;
}

/* A pipe is freed while another thread starts it: nothing of it runs afterwards. */
static void freed_while_it_starts(void)
{
    struct slow slow = {.made = 0};
    dp_pipe *pipe = new_pipe(NULL);
    add(pipe, (dp_stage){.kind = DP_STAGE_HEAD, .fill = fill_without_end, .make = make_slowly,
                         .drop = drop_slow, .user = &slow, .instances = 2});
    add(pipe, (dp_stage){.kind = DP_STAGE_TAIL, .write = ignore});
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, start_it, pipe) == 0);
    while (slow.making == 0)
        usleep(100);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    int making = slow.making;
    CHECK(slow.made == making && slow.dropped == making);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(slow.making == making && slow.dropped == making);
    CHECK_STATUS(dp_pipe_start(pipe), DP_ERR_STALE_HANDLE);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    each_kind();
    errors();
    order_of_calls();
    tokens_and_handles();
    descriptors(argv[1]);
    several_threads();
    freed_while_it_starts();
    return 0;
}
