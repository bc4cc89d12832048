/* The list of a medium: its sessions, the names of encrypted archives, copies, and the selection of
 * an archive by what the list shows. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct listed {
    unsigned count;
    int32_t answer;
    dp_listed_archive archives[8];
    char names[8][64];
};

static int32_t on_archive(void *user, const dp_listed_archive *archive)
{
    struct listed *listed = user;
    CHECK(archive->size == sizeof *archive && listed->count < 8);
    CHECK(archive->label != NULL || !(archive->flags & DP_LISTED_HEADER));
    snprintf(listed->names[listed->count], 64, "%s", archive->name ? archive->name : "?");
    listed->archives[listed->count++] = *archive;
    return listed->answer;
}

static struct listed list(const char *medium, const dp_secret *secret)
{
    struct listed listed = {.count = 0};
    dp_sessions_options options = {.size = sizeof options, .medium = medium, .secret = secret,
                                   .archive = on_archive, .archive_user = &listed};
    dp_sessions_result result = {.size = sizeof result};
    CHECK_STATUS(dp_sessions(&options, &result), DP_OK);
    CHECK(result.archives == listed.count && result.is_cut == 0);
    CHECK(result.sessions == listed.archives[listed.count - 1].session);
    return listed;
}

/* Appends an archive of a stream that has its own name as its content. */
static void append(const char *dir, const char *medium, const char *name, const dp_secret *secret,
                   dp_backup_result *written)
{
    put(at(dir, "content"), name, strlen(name));
    int content = open(at(dir, "content"), O_RDONLY);
    dp_backup_options backup = {.size = sizeof backup, .medium = medium, .name = name,
                                .source_kind = DP_SOURCE_DESCRIPTOR,
                                .source_descriptor = content, .secret = secret,
                                .mode = DP_WRITE_APPEND, .flags = DP_BACKUP_OTHER_KEY};
    CHECK_STATUS(dp_backup(&backup, written), DP_OK);
    CHECK(close(content) == 0);
}

/* Restores a stream, which must be the name of its archive. */
static dp_status restore(const char *dir, const char *medium, const dp_secret *secret,
                         dp_selection selection, const char *expected)
{
    selection.size = sizeof selection;
    int out = open(at(dir, "out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    dp_restore_options options = {.size = sizeof options, .medium = medium, .secret = secret,
                                  .selection = &selection, .target_kind = DP_TARGET_DESCRIPTOR,
                                  .target_descriptor = out};
    dp_status status = dp_restore(&options, NULL);
    CHECK(close(out) == 0);
    if (status == DP_OK)
        check_file(at(dir, "out"), expected, strlen(expected));
    return status;
}

static const dp_secret secret = {.size = sizeof secret, .kind = DP_SECRET_KEY, .bytes_len = 32,
                                 .bytes = (const uint8_t *)"0123456789abcdef0123456789abcdef"};

static void lists_and_selections(const char *dir, const char *medium)
{
    dp_backup_result first = {.size = sizeof first}, second = first, third = first;
    append(dir, medium, "first", NULL, &first);
    append(dir, medium, "second", &secret, &second);
    append(dir, medium, "third", &secret, &third);

    struct listed plain = list(medium, NULL), opened = list(medium, &secret);
    CHECK(plain.count == 3 && opened.count == 3);
    const char *names[] = {"first", "second", "third"};
    const dp_backup_result *written[] = {&first, &second, &third};
    for (unsigned i = 0; i < 3; i++) {
        const dp_listed_archive *archive = &opened.archives[i];
        CHECK(strcmp(opened.names[i], names[i]) == 0);
        CHECK(strcmp(plain.names[i], i == 0 ? "first" : "?") == 0);
        CHECK(archive->number == i + 1 && archive->session == i + 1 && archive->archive == 1);
        CHECK(archive->content == DP_CONTENT_STREAM && archive->blocks > 0);
        CHECK(archive->created_seconds > 1700000000);
        uint32_t flags = DP_LISTED_FINISHED | DP_LISTED_SESSION_FINISHED | DP_LISTED_HEADER;
        CHECK(archive->flags == (i == 0 ? flags : flags | DP_LISTED_ENCRYPTED));
        CHECK(memcmp(archive->header_hash, written[i]->header_hash, 32) == 0);
        CHECK(memcmp(archive->session_id, plain.archives[i].session_id, 16) == 0);

        const dp_secret *key = i == 0 ? NULL : &secret;
        dp_selection by_id = {.session_id = archive->session_id};
        dp_selection by_number = {.archive = archive->number};
        dp_selection by_name = {.name = names[i]};
        CHECK_STATUS(restore(dir, medium, key, by_id, names[i]), DP_OK);
        CHECK_STATUS(restore(dir, medium, key, by_number, names[i]), DP_OK);
        CHECK_STATUS(restore(dir, medium, key, by_name, names[i]), DP_OK);
    }
    dp_selection by_name = {.name = "second"};
    CHECK_STATUS(restore(dir, medium, NULL, by_name, ""), DP_ERR_NO_ARCHIVE);
    CHECK(strstr(dp_error_message(0), "2 of its names are encrypted"));
    dp_selection by_number = {.archive = 2};
    CHECK_STATUS(restore(dir, medium, NULL, by_number, ""), DP_ERR_KEY_NEEDED);
    uint8_t other[16] = {1};
    dp_selection by_id = {.session_id = other};
    CHECK_STATUS(restore(dir, medium, NULL, by_id, ""), DP_ERR_NO_ARCHIVE);

    /* A copy has the session that it came from. */
    const char *copy = at(dir, "copy.tap");
    dp_selection last = {.size = sizeof last, .session = 3};
    dp_copy_options copying = {.size = sizeof copying, .medium = medium, .target = copy,
                               .selection = &last};
    CHECK_STATUS(dp_copy(&copying, NULL), DP_OK);
    struct listed copied = list(copy, &secret);
    CHECK(copied.count == 1 && strcmp(copied.names[0], "third") == 0);
    CHECK(copied.archives[0].flags & DP_LISTED_COPY);
    CHECK(memcmp(copied.archives[0].source_session_id, opened.archives[2].session_id, 16) == 0);
    CHECK(unlink(copy) == 0);

    /* The name of an encrypted archive selects it with its secret only. */
    dp_selection second_one = {.size = sizeof second_one, .name = "second"};
    copying.selection = &second_one;
    CHECK_STATUS(dp_copy(&copying, NULL), DP_ERR_NO_ARCHIVE);
    CHECK(strstr(dp_error_message(0), "2 of its names are encrypted"));
    copying.secret = &secret;
    CHECK_STATUS(dp_copy(&copying, NULL), DP_OK);
    copied = list(copy, &secret);
    CHECK(copied.count == 1 && strcmp(copied.names[0], "second") == 0);
    CHECK(strcmp(list(copy, NULL).names[0], "?") == 0);
    CHECK(unlink(copy) == 0);
}

static void errors(const char *dir, const char *medium)
{
    struct listed listed = {.answer = 5};
    dp_sessions_options options = {.size = sizeof options, .medium = medium,
                                   .archive = on_archive, .archive_user = &listed};
    dp_sessions_result result = {.size = sizeof result, .archives = 77};
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_CALLBACK);
    CHECK(listed.count == 1 && result.archives == 77);
    CHECK(strstr(dp_error_message(0), "has returned 5"));
    options.archive = NULL;
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_NULL);
    options.archive = on_archive;
    options.reserved = 1;
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_UNSUPPORTED);
    options.reserved = 0;
    options.medium = NULL;
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_NULL);
    options.medium = at(dir, "nowhere");
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_NOT_FOUND);
    put(at(dir, "text"), "not a medium of archives at all", 31);
    options.medium = at(dir, "text");
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_NO_ARCHIVE);
    CHECK_STATUS(dp_sessions(NULL, &result), DP_ERR_NULL);
    dp_secret wrong = {.size = sizeof wrong, .kind = DP_SECRET_KEY_FILE, .path = at(dir, "nokey")};
    options.medium = medium;
    options.secret = &wrong;
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_NOT_FOUND);

    /* Another key opens none of the names, which is not an error. */
    wrong = secret;
    wrong.bytes = (const uint8_t *)"another key of thirty-two bytes.";
    struct listed sealed = list(medium, &wrong);
    CHECK(sealed.count == 3 && strcmp(sealed.names[1], "?") == 0);
}

struct problems {
    unsigned count;
    dp_cancel *token;
};

static int32_t on_problem(void *user, const dp_problem *problem)
{
    struct problems *problems = user;
    CHECK(problem->kind == DP_PROBLEM_MEDIUM && problem->path_len == 0 && *problem->text);
    problems->count++;
    return 0;
}

/* Damage between archives is a problem of a list and of a verification, and no reason to end. */
static void damage(const char *dir)
{
    const char *medium = at(dir, "damaged.tap");
    dp_backup_result written = {.size = sizeof written};
    append(dir, medium, "first", NULL, &written);
    struct stat before;
    CHECK(stat(medium, &before) == 0);
    append(dir, medium, "second", NULL, &written);
    /* The second session begins with damage. */
    FILE *file = fopen(medium, "r+b");
    CHECK(file && fseek(file, (long)before.st_size, SEEK_SET) == 0);
    for (int i = 0; i < 2000; i++)
        CHECK(fputc(0x55, file) == 0x55);
    CHECK(fclose(file) == 0);

    struct listed listed = {.count = 0};
    struct problems problems = {.count = 0};
    dp_hooks hooks = {.size = sizeof hooks, .user = &problems, .problem = on_problem};
    dp_sessions_options options = {.size = sizeof options, .medium = medium, .hooks = &hooks,
                                   .archive = on_archive, .archive_user = &listed};
    dp_sessions_result result = {.size = sizeof result};
    CHECK_STATUS(dp_sessions(&options, &result), DP_INCOMPLETE);
    CHECK(result.damage > 0 && problems.count == result.damage && listed.count > 0);

    problems.count = 0;
    dp_selection selection = {.size = sizeof selection, .archive = 1};
    dp_verify_options verify = {.size = sizeof verify, .medium = medium, .hooks = &hooks,
                                .selection = &selection};
    dp_read_result read = {.size = sizeof read};
    CHECK_STATUS(dp_verify(&verify, &read), DP_INCOMPLETE);
    CHECK(read.problems == result.damage && problems.count == result.damage);

    /* A token that is cancelled ends the list. */
    CHECK_STATUS(dp_cancel_new(&hooks.cancel), DP_OK);
    CHECK_STATUS(dp_cancel_trigger(hooks.cancel), DP_OK);
    listed.count = 0;
    CHECK_STATUS(dp_sessions(&options, &result), DP_ERR_CANCELLED);
    CHECK(listed.count == 0);
    CHECK_STATUS(dp_cancel_free(hooks.cancel), DP_OK);
}

/* A token that the list's function cancels ends the list before the next archive. */
static int32_t on_archive_cancel(void *user, const dp_listed_archive *archive)
{
    struct problems *state = user;
    CHECK(archive->number == 1 && state->count++ == 0);
    CHECK_STATUS(dp_cancel_trigger(state->token), DP_OK);
    return 0;
}

static void cancelled_between_archives(const char *medium)
{
    struct problems state = {.count = 0};
    CHECK_STATUS(dp_cancel_new(&state.token), DP_OK);
    dp_hooks hooks = {.size = sizeof hooks, .cancel = state.token};
    dp_sessions_options options = {.size = sizeof options, .medium = medium, .hooks = &hooks,
                                   .archive = on_archive_cancel, .archive_user = &state};
    CHECK_STATUS(dp_sessions(&options, NULL), DP_ERR_CANCELLED);
    CHECK(state.count == 1);
    CHECK_STATUS(dp_cancel_free(state.token), DP_OK);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    lists_and_selections(argv[1], at(argv[1], "tape.tap"));
    lists_and_selections(argv[1], at(argv[1], "volumes/"));
    errors(argv[1], at(argv[1], "tape.tap"));
    damage(argv[1]);
    cancelled_between_archives(at(argv[1], "tape.tap"));
    return 0;
}
