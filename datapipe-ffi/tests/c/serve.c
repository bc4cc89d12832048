/* Stages in C that run in processes: one of each kind, one that is killed, and errors. */
#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { BLOCKS = 200, BLOCK = 4096, PART = 100 };

void serve_modules(void);

/* 0 in the processes of stages. */
static int is_main;

static char *text_of(const dp_module_arguments *arguments)
{
    CHECK(arguments->size == sizeof *arguments && !is_main);
    char *text = calloc(1, arguments->len + 1);
    CHECK(text);
    memcpy(text, arguments->bytes, arguments->len);
    return text;
}

static unsigned char plain(unsigned block, size_t at)
{
    return (unsigned char)(block * 7 + at);
}

/* ---- the functions; the state of an instance is a count ---- */

static int32_t make(void *user, uint32_t instance, void **state)
{
    CHECK(instance < 2);
    unsigned *count = malloc(sizeof *count);
    CHECK(count);
    *count = user ? (unsigned)atoi(user) : 0;
    *state = count;
    return DP_ANSWER_OK;
}

static int32_t drop(void *state)
{
    free(state);
    return DP_ANSWER_OK;
}

static int32_t fill(void *state, dp_output *out)
{
    unsigned *left = state;
    if (*left == 0)
        return DP_ANSWER_END;
    unsigned number = BLOCKS - (*left)--;
    out->len = 2 * PART;
    for (size_t i = 0; i < out->len; i++)
        out->bytes[i] = plain(number, i);
    out->user[0] = number;
    return DP_ANSWER_OK;
}

static int32_t transform(void *state, const dp_block *block, dp_output *out)
{
    (void)state;
    CHECK(!is_main && block->len <= out->capacity);
    for (size_t i = 0; i < block->len; i++)
        out->bytes[i] = block->bytes[i] ^ 0x55;
    out->len = block->len;
    out->user[1] = (uint64_t)getpid();
    return DP_ANSWER_OK;
}

static int32_t change(void *state, dp_output *block)
{
    (void)state;
    CHECK(!is_main);
    for (size_t i = 0; i < block->len; i++)
        block->bytes[i] ^= 0x0f;
    return DP_ANSWER_OK;
}

static int32_t inspect(void *state, const dp_block *block)
{
    (void)state;
    CHECK(!is_main);
    return block->user[0] % 4 == 0 ? DP_ANSWER_MARK : DP_ANSWER_OK;
}

static int32_t halve(void *state, const dp_block *block, dp_outputs *outputs)
{
    (void)state;
    CHECK(!is_main);
    for (size_t half = 0; half < 2; half++) {
        dp_output out = {.size = sizeof out};
        CHECK_STATUS(dp_outputs_begin(outputs, &out), DP_OK);
        memcpy(out.bytes, block->bytes + half * PART, PART);
        out.len = PART;
        CHECK_STATUS(dp_outputs_send(outputs, &out), DP_OK);
    }
    return DP_ANSWER_OK;
}

static int32_t analyze(void *state, const dp_block *block, dp_analysis *analysis)
{
    (void)state;
    CHECK(!is_main && block->len == PART);
    analysis->content_class = DP_CLASS_IMAGE;
    return DP_ANSWER_OK;
}

static int32_t open_file(void *user, uint32_t instance, void **state)
{
    (void)instance;
    *state = fopen(user, "wb");
    return *state ? DP_ANSWER_OK : -errno;
}

static int32_t write_file(void *state, const dp_block *block)
{
    CHECK(!is_main && block->content_class == DP_CLASS_IMAGE);
    return fwrite(block->bytes, 1, block->len, state) == block->len ? DP_ANSWER_OK : -EIO;
}

static int32_t finish_file(void *state)
{
    return fputs("end", state) < 0 ? -EIO : DP_ANSWER_OK;
}

static int32_t close_file(void *state)
{
    return state && fclose(state) != 0 ? -EIO : DP_ANSWER_OK;
}

/* ---- the modules ---- */

static int32_t make_stage(void *user, const dp_module_arguments *arguments, dp_stage *stage)
{
    CHECK(stage->size == sizeof *stage && stage->kind == 0 && stage->name == NULL);
    *stage = *(const dp_stage *)user;
    stage->size = sizeof *stage;
    stage->user = text_of(arguments);
    return DP_ANSWER_OK;
}

static int32_t refuse(void *user, const dp_module_arguments *arguments, dp_stage *stage)
{
    (void)user, (void)arguments, (void)stage;
    return -EPERM;
}

static dp_stage stages[] = {
    {.kind = DP_STAGE_HEAD, .fill = fill, .make = make, .drop = drop},
    {.kind = DP_STAGE_TRANSFORM, .transform = transform, .make = make, .drop = drop},
    {.kind = DP_STAGE_IN_PLACE, .change = change},
    {.kind = DP_STAGE_INSPECT, .inspect = inspect},
    {.kind = DP_STAGE_FLAT_MAP, .flat_map = halve, .most_outputs = 2},
    {.kind = DP_STAGE_ANALYZE, .analyze = analyze},
    {.kind = DP_STAGE_TAIL, .make = open_file, .write = write_file, .finish = finish_file,
     .drop = close_file},
    {.kind = DP_STAGE_ZSTD},
    {.kind = DP_STAGE_HEAD, .fill = fill, .run = DP_RUN_STATEFUL},
};

/* A tail in threads. */
static int32_t count_bytes(void *state, const dp_block *block)
{
    CHECK(is_main && state == NULL);
    return block->len > 0 ? DP_ANSWER_OK : -EBADMSG;
}

static int32_t make_tail(void *user, const dp_module_arguments *arguments, dp_stage *stage)
{
    CHECK(is_main && arguments->len == 9);
    stage->kind = DP_STAGE_TAIL;
    stage->write = count_bytes;
    stage->user = user;
    return DP_ANSWER_OK;
}

static const dp_module thread_modules[] = {
    {.size = sizeof(dp_module), .name = "tail", .make = make_tail},
};

static const dp_module modules[] = {
    {.size = sizeof(dp_module), .name = "head", .make = make_stage, .user = &stages[0]},
    {.size = sizeof(dp_module), .name = "transform", .make = make_stage, .user = &stages[1]},
    {.size = sizeof(dp_module), .name = "change", .make = make_stage, .user = &stages[2]},
    {.size = sizeof(dp_module), .name = "inspect", .make = make_stage, .user = &stages[3]},
    {.size = sizeof(dp_module), .name = "halve", .make = make_stage, .user = &stages[4]},
    {.size = sizeof(dp_module), .name = "analyze", .make = make_stage, .user = &stages[5]},
    {.size = sizeof(dp_module), .name = "tail", .make = make_stage, .user = &stages[6]},
    {.size = sizeof(dp_module), .name = "zstd", .make = make_stage, .user = &stages[7]},
    {.size = sizeof(dp_module), .name = "runs", .make = make_stage, .user = &stages[8]},
    {.size = sizeof(dp_module), .name = "refuse", .make = refuse},
};

void serve_modules(void)
{
    CHECK_STATUS(dp_serve(modules, sizeof modules / sizeof modules[0]), DP_OK);
}

/* ---- the program that has the pipes ---- */

/* A stage in processes, whose functions are those of a module. */
static dp_stage in_processes(int32_t kind, const char *module, const char *arguments)
{
    return (dp_stage){.size = sizeof(dp_stage), .kind = kind, .module = module,
                      .name = module, .module_arguments = (const uint8_t *)arguments,
                      .module_arguments_len = strlen(arguments), .run = DP_RUN_IN_PROCESSES};
}

static atomic_uint started, died;

static int32_t on_event(void *user, const dp_event *event)
{
    (void)user;
    started += event->kind == DP_EVENT_PROCESS_STARTED;
    died += event->kind == DP_EVENT_DIED;
    return 0;
}

static dp_pipe *new_pipe(void)
{
    dp_pipe *pipe = NULL;
    dp_pipe_options options = {.size = sizeof options, .buffer_size = BLOCK, .event = on_event};
    started = died = 0;
    CHECK_STATUS(dp_pipe_new(&options, &pipe), DP_OK);
    return pipe;
}

static void each_kind(const char *dir)
{
    dp_pipe *pipe = new_pipe();
    const char *path = at(dir, "written");
    char count[16];
    snprintf(count, sizeof count, "%d", BLOCKS);
    dp_stage all[] = {
        in_processes(DP_STAGE_HEAD, "head", count),
        in_processes(DP_STAGE_TRANSFORM, "transform", ""),
        in_processes(DP_STAGE_IN_PLACE, "change", ""),
        in_processes(DP_STAGE_INSPECT, "inspect", ""),
        in_processes(DP_STAGE_FLAT_MAP, "halve", ""),
        in_processes(DP_STAGE_ANALYZE, "analyze", ""),
        {.size = sizeof(dp_stage), .kind = DP_STAGE_ZSTD, .run = DP_RUN_IN_PROCESSES},
        {.size = sizeof(dp_stage), .kind = DP_STAGE_DECOMPRESS, .run = DP_RUN_IN_PROCESSES},
        in_processes(DP_STAGE_TAIL, "tail", path),
    };
    all[1].instances = 2;
    all[2].program = "/proc/self/exe";
    all[3].run |= DP_RUN_TOGETHER;
    all[4].most_outputs = 2;
    all[5].work_limit_ms = 60000;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        CHECK_STATUS(dp_pipe_add(pipe, &all[i]), DP_OK);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    dp_pipe_result result = {.size = sizeof result};
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, &result), DP_OK);
    CHECK(result.marked == BLOCKS / 4 && started >= 10 && died == 0);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);

    static unsigned char expected[BLOCKS * 2 * PART + 3];
    for (size_t i = 0; i < BLOCKS * 2 * PART; i++)
        expected[i] = plain((unsigned)(i / (2 * PART)), i % (2 * PART)) ^ 0x55 ^ 0x0f;
    memcpy(expected + BLOCKS * 2 * PART, "end", 3);
    check_file(path, expected, sizeof expected);
}

/* A stage in processes that JSON describes. */
static void from_json(void)
{
    static const char text[] =
        "{\"buffer_size\": 4096, \"stages\": ["
        "{\"kind\": \"head\", \"module\": \"head\", \"arguments\": \"7\", \"in_processes\": true},"
        "{\"kind\": \"transform\", \"module\": \"transform\", \"in_processes\": true,"
        " \"program\": \"/proc/self/exe\", \"work_limit_ms\": 60000, \"stateful\": true},"
        "{\"kind\": \"tail\", \"module\": \"tail\", \"arguments\": \"/dev/null\"}]}";
    dp_pipe_json description = {.size = sizeof description, .text = (const uint8_t *)text,
                                .text_len = sizeof text - 1, .modules = thread_modules,
                                .module_count = 1, .event = on_event};
    dp_pipe *pipe = NULL;
    started = 0;
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_OK);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    dp_pipe_result result = {.size = sizeof result};
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, &result), DP_OK);
    CHECK(result.bytes_out == 7 * 2 * PART && started == 2);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

struct received {
    unsigned count, processes;
    pid_t process, killed;
};

/* Kills the process that has made a block, once. */
static int32_t kill_once(void *state, const dp_block *block)
{
    struct received *received = state;
    CHECK(block->len == 2 * PART && block->user[0] == received->count);
    for (size_t i = 0; i < block->len; i++)
        CHECK(block->bytes[i] == (plain(received->count, i) ^ 0x55));
    pid_t process = (pid_t)block->user[1];
    received->processes += process != received->process;
    received->process = process;
    if (received->count++ == 5) {
        received->killed = process;
        CHECK(kill(process, SIGKILL) == 0);
    }
    return DP_ANSWER_OK;
}

/* A process that is killed is replaced, and no block is lost; one with a state is not. */
static void killed(uint32_t more_run, dp_status expected)
{
    dp_pipe *pipe = new_pipe();
    unsigned left = BLOCKS;
    struct received received = {.count = 0};
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill, .user = &left};
    dp_stage middle = in_processes(DP_STAGE_TRANSFORM, "transform", "");
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_TAIL, .write = kill_once,
                     .user = &received};
    middle.run |= more_run;
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &middle), DP_OK);
    CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_OK);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, NULL), expected);
    CHECK(received.killed > 0 && died == 1);
    if (expected == DP_OK)
        CHECK(received.count == BLOCKS && received.processes == 2);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

/* Runs a pipe with a stage that cannot work. */
static void fails(dp_stage middle, dp_status expected, const char *text)
{
    dp_pipe *pipe = new_pipe();
    unsigned left = BLOCKS;
    struct received received = {.count = 0};
    dp_stage head = {.size = sizeof head, .kind = DP_STAGE_HEAD, .fill = fill, .user = &left};
    dp_stage tail = {.size = sizeof tail, .kind = DP_STAGE_TAIL, .write = kill_once,
                     .user = &received};
    CHECK_STATUS(dp_pipe_add(pipe, &head), DP_OK);
    dp_status status = dp_pipe_add(pipe, &middle);
    if (status == DP_OK) {
        CHECK_STATUS(dp_pipe_add(pipe, &tail), DP_OK);
        status = dp_pipe_start(pipe);
        if (status == DP_OK)
            status = dp_pipe_wait(pipe, DP_FOREVER, NULL);
    }
    CHECK_STATUS(status, expected);
    if (strstr(dp_error_message(0), text) == NULL) {
        fprintf(stderr, "\"%s\" is not in: %s\n", text, dp_error_message(0));
        exit(1);
    }
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
}

static void errors(void)
{
    dp_stage middle = in_processes(DP_STAGE_TRANSFORM, "transform", "");
    dp_stage bad = middle;
    bad.module = "nothing";
    fails(bad, DP_ERR_STAGE, "has no module \"nothing\"");
    bad.module = "refuse";
    fails(bad, DP_ERR_STAGE, "the module has returned -1");
    bad.module = "zstd";
    fails(bad, DP_ERR_STAGE, "a stage of the library");
    bad.module = "runs";
    fails(bad, DP_ERR_STAGE, "the module has set stage.run to 2");
    bad.module = "change";
    fails(bad, DP_ERR_STAGE, "kind");
    bad = middle;
    bad.program = "/nowhere/program";
    fails(bad, DP_ERR_NOT_FOUND, "/nowhere/program");
    bad = middle;
    bad.module = NULL;
    fails(bad, DP_ERR_NULL, "stage.module is missing");
    bad = middle;
    bad.module_arguments_len = 3;
    bad.module_arguments = NULL;
    fails(bad, DP_ERR_NULL, "stage.module_arguments");
    bad = middle;
    bad.run = 0;
    bad.transform = transform;
    fails(bad, DP_ERR_ARGUMENT, "DP_RUN_IN_PROCESSES");
    bad.run = 256;
    fails(bad, DP_ERR_ARGUMENT, "unknown bits 0x100");
    bad = (dp_stage){.size = sizeof bad, .kind = DP_STAGE_UNBOUND_TAIL, .run = 1};
    fails(bad, DP_ERR_ARGUMENT, "a process that attaches");
    static uint8_t long_arguments[(64 << 10) + 1];
    bad = middle;
    bad.module_arguments = long_arguments;
    bad.module_arguments_len = sizeof long_arguments;
    fails(bad, DP_ERR_REFUSED, "transform");

    dp_module two[] = {modules[0], modules[1]};
    CHECK_STATUS(dp_serve(two, 2), DP_OK);
    CHECK_STATUS(dp_serve(NULL, 0), DP_OK);
    CHECK_STATUS(dp_serve(NULL, 2), DP_ERR_NULL);
    two[1].name = two[0].name;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_ARGUMENT);
    two[1].name = "datapipe.zstd";
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_ARGUMENT);
    two[1].name = "";
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_ARGUMENT);
    two[1].name = NULL;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_NULL);
    two[1] = two[0];
    two[1].make = NULL;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_NULL);
    two[1].size = 8;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_STRUCT_SIZE);
    two[1].size = sizeof two;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_STRUCT_SIZE);
    two[0].size = sizeof two[0] + 1;
    CHECK_STATUS(dp_serve(two, 2), DP_ERR_STRUCT_SIZE);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    is_main = 1;
    each_kind(argv[1]);
    from_json();
    killed(0, DP_OK);
    killed(DP_RUN_STATEFUL, DP_ERR_STAGE);
    errors();
    return 0;
}
