/* Stages in C that make several blocks from one or analyze blocks, the events of a pipe, and the
 * state of each stage. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum { BLOCKS = 60, BLOCK = 4096 };

/* Faults of the function `divide`. */
enum fault { NONE, TOO_MANY, NOT_SENT, WRONG_PLACE, TOO_LONG, TWICE, OTHER_THREAD, ANSWER };

struct run {
    atomic_uint next, written, finished, events[100];
    atomic_ullong sum;
    enum fault fault;
    dp_outputs *lent;
    dp_pipe *pipe;
};

static int32_t fill(void *state, dp_output *out)
{
    struct run *run = state;
    unsigned number = run->next++;
    if (number == BLOCKS)
        return DP_ANSWER_END;
    out->len = 1 + number % 5;
    memset(out->bytes, (int)number, out->len);
    out->user[0] = number;
    return DP_ANSWER_OK;
}

static void *use_elsewhere(void *outputs)
{
    dp_output out = {.size = sizeof out};
    CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_ERR_STALE_HANDLE);
    return NULL;
}

/* Commits the fault of a run. Returns the answer. */
static int32_t be_wrong(struct run *run, dp_outputs *outputs)
{
    dp_output out = {.size = sizeof out}, other = {.size = sizeof other};
    pthread_t thread;
    switch (run->fault) {
    case TOO_MANY:
        for (int i = 0; i < 4; i++) {
            CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
            CHECK_STATUS(dp_outputs_send(outputs, &out), DP_OK);
        }
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_ERR_STAGE);
        return DP_ANSWER_OK; /* the library does not forget it */
    case NOT_SENT:
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        return DP_ANSWER_OK;
    case WRONG_PLACE:
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_ERR_STATE);
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        CHECK_STATUS(dp_outputs_send(outputs, &other), DP_ERR_ARGUMENT);
        return -EBADMSG;
    case TOO_LONG:
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        out.len = out.capacity + 1;
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_ERR_ARGUMENT);
        return -EBADMSG;
    case TWICE:
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_ERR_STATE);
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_OK);
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_ERR_STATE);
        return -EBADMSG;
    case OTHER_THREAD:
        CHECK(pthread_create(&thread, NULL, use_elsewhere, outputs) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_STATUS(dp_outputs_begin(NULL, &out), DP_ERR_NULL);
        CHECK_STATUS(dp_outputs_begin(outputs, NULL), DP_ERR_NULL);
        CHECK_STATUS(dp_outputs_begin((dp_outputs *)(void *)run->pipe, &out), DP_ERR_HANDLE_KIND);
        return -EBADMSG;
    default:
        return 77;
    }
}

/* Makes a block from each byte; none from a block of one byte. */
static int32_t divide(void *state, const dp_block *block, dp_outputs *outputs)
{
    struct run *run = state;
    if (run->fault != NONE)
        return be_wrong(run, outputs);
    if (run->lent && run->lent != outputs)
        CHECK_STATUS(dp_outputs_begin(run->lent, &(dp_output){.size = sizeof(dp_output)}),
                     DP_ERR_STALE_HANDLE);
    run->lent = outputs;
    for (size_t i = 0; block->len > 1 && i < block->len; i++) {
        dp_output out = {.size = sizeof out};
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        CHECK(out.len == 0 && out.capacity == BLOCK && out.user[0] == block->user[0]);
        out.bytes[0] = block->bytes[i];
        out.len = 1;
        out.user[1] = i;
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_OK);
    }
    return DP_ANSWER_OK;
}

static int32_t analyze(void *state, const dp_block *block, dp_analysis *analysis)
{
    struct run *run = state;
    CHECK(analysis->size == sizeof *analysis && analysis->content_class == DP_CLASS_UNKNOWN);
    if (run->fault != NONE) { /* blocks without data, which were sent before the fault */
        analysis->content_class = run->fault == ANSWER ? 256 : DP_CLASS_OTHER;
        return DP_ANSWER_OK;
    }
    CHECK(block->len == 1 && analysis->user[1] == block->user[1]);
    analysis->content_class = block->user[1] == 0 ? DP_CLASS_TEXT : DP_CLASS_IMAGE;
    analysis->user[2] = 7;
    return DP_ANSWER_OK;
}

static int32_t write_block(void *state, const dp_block *block)
{
    struct run *run = state;
    if (run->fault != NONE)
        return DP_ANSWER_OK;
    CHECK(block->len == 1 && block->bytes[0] == block->user[0] && block->user[2] == 7);
    CHECK(block->content_class == (block->user[1] == 0 ? DP_CLASS_TEXT : DP_CLASS_IMAGE));
    CHECK(block->number == run->written && block->marks == 0);
    run->written++;
    run->sum += block->user[0];
    return DP_ANSWER_OK;
}

static int32_t on_event(void *user, const dp_event *event)
{
    struct run *run = user;
    CHECK(event->size == sizeof *event && event->kind > 0 && event->kind < 100);
    CHECK(event->stage[0] && strstr(event->text, event->stage));
    run->events[event->kind]++;
    if (event->kind == DP_EVENT_ENDED)
        CHECK_STATUS(dp_pipe_wait(run->pipe, DP_FOREVER, NULL), DP_ERR_REENTRANT);
    return 0;
}

static dp_pipe *start(struct run *run, dp_stage middle)
{
    dp_pipe_options options = {.size = sizeof options, .buffer_size = BLOCK, .event = on_event,
                               .event_user = run};
    dp_stage stages[] = {
        {.kind = DP_STAGE_HEAD, .fill = fill, .name = "head"},
        middle,
        {.kind = DP_STAGE_ANALYZE, .analyze = analyze, .name = "look"},
        {.kind = DP_STAGE_TAIL, .write = write_block, .name = "tail"},
    };
    CHECK_STATUS(dp_pipe_new(&options, &run->pipe), DP_OK);
    for (size_t i = 0; i < 4; i++) {
        stages[i].size = sizeof stages[i];
        stages[i].user = run;
        CHECK_STATUS(dp_pipe_add(run->pipe, &stages[i]), DP_OK);
    }
    CHECK_STATUS(dp_pipe_start(run->pipe), DP_OK);
    return run->pipe;
}

static const dp_stage flat_map = {.kind = DP_STAGE_FLAT_MAP, .flat_map = divide,
                                  .most_outputs = 5, .name = "divide"};

static void several_blocks_from_one(void)
{
    struct run run = {.fault = NONE};
    dp_pipe *pipe = start(&run, flat_map);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_OK);
    unsigned blocks = 0, sum = 0;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (i % 5 > 0)
            blocks += 1 + i % 5, sum += i * (1 + i % 5);
    CHECK(run.written == blocks && run.sum == sum);
    CHECK(run.events[DP_EVENT_THREAD_STARTED] >= 4 && run.events[DP_EVENT_FAILED] == 0);
    CHECK(run.events[DP_EVENT_ENDED] == run.events[DP_EVENT_THREAD_STARTED]);
    CHECK_STATUS(dp_outputs_begin(run.lent, &(dp_output){.size = sizeof(dp_output)}),
                 DP_ERR_STALE_HANDLE);

    /* The state of each stage: in a larger array, in one that is too small, in none. */
    dp_stage_status stages[32] = {{.size = sizeof stages[0]}};
    size_t count = 0, same = 0;
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 32, &count), DP_OK);
    CHECK(count == 5 && stages[4].size == sizeof stages[0] && stages[5].size == 0);
    CHECK(strcmp(stages[0].name, "head") == 0 && stages[0].blocks_out == BLOCKS);
    CHECK(strcmp(stages[1].name, "divide") == 0 && stages[1].blocks_in == BLOCKS);
    CHECK(strcmp(stages[4].name, "tail") == 0 && stages[4].blocks_in == blocks);
    CHECK(stages[4].instances == 1 && stages[4].ended == 1 && stages[4].bytes_in == blocks);
    stages[2].name[0] = '?';
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 2, &same), DP_OK);
    CHECK(same == count && stages[2].name[0] == '?');
    CHECK_STATUS(dp_pipe_get_stages(pipe, NULL, 0, &same), DP_OK);
    CHECK_STATUS(dp_pipe_get_stages(pipe, NULL, 1, &same), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 1, NULL), DP_ERR_NULL);
    stages[0].size = 8;
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 1, &same), DP_ERR_STRUCT_SIZE);
    stages[0].size = sizeof stages[0] + 1;
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 1, &same), DP_ERR_STRUCT_SIZE);

    /* A program with a later header has longer structs; what the library does not know is 0. */
    struct later {
        dp_stage_status now;
        uint64_t more;
    } later[2] = {{.now.size = sizeof later[0], .more = 5}, {.more = 6}};
    CHECK_STATUS(dp_pipe_get_stages(pipe, &later[0].now, 2, &same), DP_OK);
    CHECK(later[0].more == 0 && later[1].more == 0 && later[1].now.size == sizeof later[1]);
    CHECK(strcmp(later[1].now.name, "divide") == 0);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

static void faults(void)
{
    struct {
        enum fault fault;
        dp_status status;
        const char *text;
    } cases[] = {
        {TOO_MANY, DP_ERR_STAGE, "divide"},        {NOT_SENT, DP_ERR_STAGE, "dp_outputs_send"},
        {WRONG_PLACE, DP_ERR_SYSTEM, "flat_map"},  {TOO_LONG, DP_ERR_SYSTEM, "flat_map"},
        {TWICE, DP_ERR_SYSTEM, "flat_map"},        {OTHER_THREAD, DP_ERR_SYSTEM, "flat_map"},
        {ANSWER, DP_ERR_STAGE, "has returned 77"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run run = {.fault = cases[i].fault};
        dp_stage four = flat_map;
        four.most_outputs = 4;
        dp_pipe *pipe = start(&run, four);
        CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), cases[i].status);
        CHECK(strstr(dp_error_message(0), cases[i].text));
        CHECK(run.events[DP_EVENT_FAILED] == 1);
        CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    }

    /* An analysis with a class that there is not. */
    struct run run = {.fault = ANSWER};
    dp_stage same = {.kind = DP_STAGE_ANALYZE, .analyze = analyze, .name = "wrong"};
    dp_pipe *pipe = start(&run, same);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), DP_ERR_STAGE);
    CHECK(strstr(dp_error_message(0), "content class 256"));
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);

    CHECK_STATUS(dp_pipe_new(NULL, &pipe), DP_OK);
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill};
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    dp_stage wrong = flat_map;
    wrong.size = sizeof wrong;
    wrong.most_outputs = 0;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_ARGUMENT);
    wrong.most_outputs = 65;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_ARGUMENT);
    wrong.most_outputs = 64;
    wrong.flat_map = NULL;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_NULL);
    wrong.kind = DP_STAGE_ANALYZE;
    CHECK_STATUS(dp_pipe_add(pipe, &wrong), DP_ERR_NULL);
    size_t count;
    CHECK_STATUS(dp_pipe_get_stages(pipe, NULL, 0, &count), DP_ERR_STATE);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && argv[1]);
    several_blocks_from_one();
    faults();
    return 0;
}
