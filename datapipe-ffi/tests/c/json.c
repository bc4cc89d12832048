/* Pipes from a description in JSON. */
#include "check.h"

#include <fcntl.h>
#include <unistd.h>

static unsigned events;

static int32_t on_event(void *user, const dp_event *event)
{
    (void)event;
    __atomic_add_fetch((unsigned *)user, 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* Adds the number that the module has got as its arguments. */
static int32_t change(void *state, dp_output *block)
{
    for (size_t i = 0; i < block->len; i++)
        block->bytes[i] = (uint8_t)(block->bytes[i] + (uintptr_t)state);
    return DP_ANSWER_OK;
}

static int32_t make_adder(void *user, const dp_module_arguments *arguments, dp_stage *stage)
{
    CHECK(user == &events && arguments->len == 1);
    stage->kind = DP_STAGE_IN_PLACE;
    stage->change = change;
    stage->user = (void *)(uintptr_t)(arguments->bytes[0] - '0');
    return DP_ANSWER_OK;
}

static int32_t make_zstd(void *user, const dp_module_arguments *arguments, dp_stage *stage)
{
    (void)user, (void)arguments;
    stage->kind = DP_STAGE_ZSTD;
    return DP_ANSWER_OK;
}

static const dp_module modules[] = {
    {.size = sizeof(dp_module), .name = "adder", .make = make_adder, .user = &events},
    {.size = sizeof(dp_module), .name = "zstd", .make = make_zstd},
};

static dp_status make(const char *text, dp_pipe **pipe)
{
    dp_pipe_json description = {.size = sizeof description, .text = (const uint8_t *)text,
                                .text_len = strlen(text), .modules = modules, .module_count = 2,
                                .event = on_event, .event_user = &events};
    return dp_pipe_from_json(&description, pipe);
}

static void works(const char *dir)
{
    const char *from = at(dir, "from"), *to = at(dir, "to");
    static uint8_t bytes[100000], expected[sizeof bytes];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i / 100);
        expected[i] = (uint8_t)(bytes[i] + 5);
    }
    put(from, bytes, sizeof bytes);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0600);
    CHECK(in >= 0 && out >= 0);
    char text[1024];
    snprintf(text, sizeof text,
             "{\"label\": \"from JSON\", \"buffer_size\": 4096, \"buffers\": 32, \"stages\": [\n"
             "  {\"kind\": \"read_descriptor\", \"descriptor\": %d},\n"
             "  {\"kind\": \"in_place\", \"module\": \"adder\", \"arguments\": \"2\"},\n"
             "  {\"kind\": \"zstd\", \"level\": 5, \"instances\": 2},\n"
             "  {\"kind\": \"decompress\"},\n"
             "  {\"kind\": \"in_place\", \"module\": \"adder\", \"arguments\": \"3\",\n"
             "   \"name\": \"s\\u00e9cond\", \"instances\": 2, \"stateful\": false},\n"
             "  {\"kind\": \"write_descriptor\", \"descriptor\": %d}]}",
             in, out);
    dp_pipe *pipe = NULL;
    CHECK_STATUS(make(text, &pipe), DP_OK);
    memset(text, 0, sizeof text);
    CHECK(close(in) == 0 && close(out) == 0);
    CHECK_STATUS(dp_pipe_start(pipe), DP_OK);
    dp_stage_status stages[8] = {{.size = sizeof stages[0]}};
    size_t count = 0;
    CHECK_STATUS(dp_pipe_get_stages(pipe, stages, 8, &count), DP_OK);
    CHECK(count == 6 && strcmp(stages[2].name, "zstd") == 0);
    CHECK(strcmp(stages[4].name, "s\xc3\xa9" "cond") == 0 && strcmp(stages[1].name, "change") == 0);
    dp_pipe_result result = {.size = sizeof result};
    CHECK_STATUS(dp_pipe_wait(pipe, DP_FOREVER, &result), DP_OK);
    dp_pipe_status status = {.size = sizeof status};
    CHECK_STATUS(dp_pipe_get_status(pipe, &status), DP_OK);
    CHECK(status.buffers == 32 && result.bytes_out == sizeof bytes && events > 0);
    CHECK_STATUS(dp_pipe_free(pipe), DP_OK);
    check_file(to, expected, sizeof expected);
}

/* Each fault with its status and the member that the message names. */
static void errors(void)
{
    static const struct {
        const char *text;
        dp_status status;
        const char *message;
    } faults[] = {
        {"", DP_ERR_ARGUMENT, "$ is not JSON: "},
        {"{\"stages\": [}", DP_ERR_ARGUMENT, "line 1 column 13"},
        {"[]", DP_ERR_ARGUMENT, "$ is not an object"},
        {"{\"stages\": []} x", DP_ERR_ARGUMENT, "$ is not JSON: trailing"},
        {"{\"stages\": [], \"buffers\": 4, \"buffers\": 4}", DP_ERR_ARGUMENT,
         "$.buffers comes twice at line 1 column"},
        {"{\"stages\": [{\"kind\": \"unbound_head\"}, {\"kind\": \"zstd\", \"level\": 1,"
         " \"l\\u0065vel\": 2}]}", DP_ERR_ARGUMENT, "$.stages[1].level comes twice"},
        {"{\"x\": {\"y\": [[], {\"z\": 1, \"z\": 1}]}}", DP_ERR_ARGUMENT,
         "$.x.y[1].z comes twice"},
        {"{\"stages\": [], \"label\": \"a\\u0000b\"}", DP_ERR_ARGUMENT, "$.label has a zero byte"},
        {"{\"stages\": [{\"kind\": \"head\", \"name\": \"a\\u0000b\"}]}", DP_ERR_ARGUMENT,
         "$.stages[0].module is missing"},
        {"{\"stages\": [{\"kind\": \"unbound_head\", \"name\": \"a\\u0000b\"}]}", DP_ERR_ARGUMENT,
         "$.stages[0].name has a zero byte"},
        {"{\"stages\": [], \"label\": \"\xff\"}", DP_ERR_ARGUMENT, "$ is not JSON: "},
        {"{\"stages\": [], \"label\": \"\\ud800\"}", DP_ERR_ARGUMENT, "$ is not JSON: "},
        {"{\"stages\": [], \"buffers\": 1e999}", DP_ERR_ARGUMENT, "number out of range"},
        {"{\"stages\": [], \"buffers\": 4294967296}", DP_ERR_ARGUMENT, "$.buffers is 4294967296"},
        {"{\"stages\": [], \"buffers\": 99999999999999999999}", DP_ERR_ARGUMENT,
         "$.buffers is 1e+20"},
        {"{}", DP_ERR_ARGUMENT, "$.stages is not a list"},
        {"{\"stages\": [], \"bufers\": 3}", DP_ERR_ARGUMENT, "$.bufers is not a member"},
        {"{\"stages\": [], \"buffers\": 1.5}", DP_ERR_ARGUMENT, "$.buffers is 1.5"},
        {"{\"stages\": [], \"buffers\": -1}", DP_ERR_ARGUMENT, "$.buffers is -1"},
        {"{\"stages\": [], \"label\": 1}", DP_ERR_ARGUMENT, "$.label is not a text"},
        {"{\"stages\": [7]}", DP_ERR_ARGUMENT, "$.stages[0] is not an object"},
        {"{\"stages\": [{}]}", DP_ERR_ARGUMENT, "$.stages[0].kind is not one of head, "},
        {"{\"stages\": [{\"kind\": \"zst\"}]}", DP_ERR_ARGUMENT, "$.stages[0].kind is not one of"},
        {"{\"stages\": [{\"kind\": \"zstd\"}]}", DP_ERR_STATE, "$.stages[0]: the first stage"},
        {"{\"stages\": [{\"kind\": \"read_descriptor\"}]}", DP_ERR_ARGUMENT,
         "$.stages[0].descriptor is missing"},
        {"{\"stages\": [{\"kind\": \"unbound_head\", \"descriptor\": 0}]}", DP_ERR_ARGUMENT,
         "$.stages[0].descriptor is not for"},
        {"{\"stages\": [{\"kind\": \"read_descriptor\", \"descriptor\": -1}]}", DP_ERR_SYSTEM,
         "$.stages[0].descriptor: "},
        {"{\"stages\": [{\"kind\": \"unbound_head\"}, {\"kind\": \"zstd\", \"level\": 99}]}",
         DP_ERR_ARGUMENT, "$.stages[1].level is 99"},
        {"{\"stages\": [{\"kind\": \"unbound_head\", \"in_processes\": true}]}", DP_ERR_ARGUMENT,
         "$.stages[0].in_processes is not for this kind"},
        {"{\"stages\": [{\"kind\": \"unbound_head\", \"x\": 1}]}", DP_ERR_ARGUMENT,
         "$.stages[0].x is not a member"},
        {"{\"stages\": [{\"kind\": \"head\"}]}", DP_ERR_ARGUMENT, "$.stages[0].module is missing"},
        {"{\"stages\": [{\"kind\": \"head\", \"in_processes\": true}]}", DP_ERR_ARGUMENT,
         "$.stages[0].module is missing"},
        {"{\"stages\": [{\"kind\": \"head\", \"module\": \"none\"}]}", DP_ERR_ARGUMENT,
         "$.stages[0].module is \"none\""},
        {"{\"stages\": [{\"kind\": \"head\", \"module\": \"zstd\"}]}", DP_ERR_ARGUMENT,
         "$.stages[0].module has made a stage of the library"},
        {"{\"stages\": [{\"kind\": \"head\", \"module\": \"adder\", \"arguments\": \"1\"}]}",
         DP_ERR_NULL, "$.stages[0].fill is missing"},
        {"{\"stages\": [{\"kind\": \"zstd\", \"module\": \"adder\", \"arguments\": \"1\"}]}",
         DP_ERR_ARGUMENT, "$.stages[0].module is not for this kind"},
        {"{\"stages\": [{\"kind\": \"unbound_head\"}, {\"kind\": \"zstd\", \"program\": \"x\"}]}",
         DP_ERR_ARGUMENT, "$.stages[1].program needs in_processes"},
        {"{\"stages\": [{\"kind\": \"unbound_head\"}, {\"kind\": \"zstd\", \"together\": 1}]}",
         DP_ERR_ARGUMENT, "$.stages[1].together is neither true nor false"},
        {"{\"stages\": [{\"kind\": \"unbound_head\"}, {\"kind\": \"flat_map\", \"module\": \"m\","
         " \"in_processes\": true, \"most_outputs\": 65}]}",
         DP_ERR_ARGUMENT, "$.stages[1].most_outputs is 65"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        dp_pipe *pipe = NULL;
        dp_status status = make(faults[i].text, &pipe);
        const char *message = dp_error_message(0);
        if (status != faults[i].status || strstr(message, faults[i].message) == NULL || pipe) {
            fprintf(stderr, "%s: %s, %s\n", faults[i].text, dp_status_name(status), message);
            exit(1);
        }
    }
    dp_pipe *pipe = NULL;
    dp_pipe_json description = {.size = sizeof description, .text_len = 3};
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_from_json(NULL, &pipe), DP_ERR_NULL);
    CHECK_STATUS(dp_pipe_from_json(&description, NULL), DP_ERR_NULL);
    dp_module wrong[] = {modules[0], modules[1]};
    description.modules = wrong;
    description.module_count = 2;
    wrong[1].name = "adder";
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_NULL);
    description.text = (const uint8_t *)"{}";
    description.text_len = 2;
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "modules[1] has the name \"adder\", which is taken"));
    CHECK_STATUS(dp_serve(wrong, 2), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "modules[1] has the name \"adder\""));
    char name[257];
    memset(name, 'x', 256);
    name[256] = 0;
    wrong[1].name = name;
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "too long"));
    wrong[1].name = "";
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_ARGUMENT);
    wrong[1].name = "datapipe.zstd";
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_ARGUMENT);
    wrong[1].name = "other";
    wrong[1].make = NULL;
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_NULL);
    CHECK(strstr(dp_error_message(0), "modules[1]: dp_module.make is NULL"));
    description.module_count = 0;
    static uint8_t deep[100000];
    memset(deep, '[', sizeof deep);
    description.text = deep;
    description.text_len = sizeof deep;
    CHECK_STATUS(dp_pipe_from_json(&description, &pipe), DP_ERR_ARGUMENT);
    CHECK(strstr(dp_error_message(0), "recursion limit"));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    works(argv[1]);
    errors();
    return 0;
}
