/*
 * A backup tool in C.
 *
 *     cc -o backup backup.c $(pkg-config --cflags --libs datapipe)
 *     backup backup  MEDIUM SOURCE...      backs up files and directories
 *     backup list    MEDIUM                prints the paths in the archive
 *     backup verify  MEDIUM                reads and checks all of it
 *     backup restore MEDIUM DIRECTORY      restores it
 *
 * BACKUP_KEY_FILE names the file of a key. Exit codes: 0 for success, 1 for a failure, 2 for wrong
 * usage, 3 if some objects have problems. SIGINT and SIGTERM stop the job in an orderly way.
 */
#include <datapipe.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static dp_cancel *token;

static void on_signal(int signal)
{
    (void)signal;
    dp_cancel_trigger(token); /* safe in a signal handler */
}

static void on_message(void *user, int32_t level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "backup: %s\n", message);
}

/* Prints a path of an archive, which may have any bytes, so that it stays on its line. */
static void print_path(FILE *out, const char *path)
{
    for (; *path; path++) {
        unsigned char byte = (unsigned char)*path;
        if (byte < 0x20 || byte == 0x7f || byte == '\\')
            fprintf(out, "\\x%02x", byte);
        else
            fputc(byte, out);
    }
}

static int32_t on_progress(void *user, const dp_progress *progress)
{
    (void)user;
    if (isatty(STDERR_FILENO)) {
        double seconds = (double)progress->elapsed_ns / 1e9;
        double mib = (double)progress->bytes_in / (1 << 20);
        fprintf(stderr, "\r%.1f MiB, %" PRIu64 " files, %.1f MiB/s \033[K", mib, progress->files,
                seconds > 0 ? mib / seconds : 0);
    }
    return 0; /* another number would cancel the job */
}

static int32_t on_problem(void *user, const dp_problem *problem)
{
    (void)user;
    fputs("backup: ", stderr);
    print_path(stderr, problem->path);
    fprintf(stderr, ": %s\n", problem->text);
    return 0;
}

static int32_t on_entry(void *user, const dp_entry *entry)
{
    (void)user;
    printf("%06" PRIo32 " %12" PRIu64 " ", entry->mode, entry->object_size);
    print_path(stdout, entry->path);
    if (entry->kind == DP_OBJECT_SYMLINK) {
        fputs(" -> ", stdout);
        print_path(stdout, entry->target);
    }
    putchar('\n');
    return ferror(stdout) ? EIO : 0; /* ends the list */
}

static dp_status back_up(int count, char **arguments, const dp_secret *secret, dp_hooks *hooks)
{
    dp_backup_options options = {.size = sizeof options, .medium = arguments[0],
                                 .sources = (const char *const *)(arguments + 1),
                                 .source_count = (size_t)count - 1, .secret = secret,
                                 .hooks = hooks, .program = "backup.c 1"};
    dp_backup_result result = {.size = sizeof result};
    dp_status status = dp_backup(&options, &result);
    if (status == DP_OK || status == DP_INCOMPLETE)
        printf("%" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " others, %" PRIu64
               " bytes\n", result.files, result.directories, result.others, result.bytes_in);
    return status;
}

static dp_status list(const char *medium, const dp_secret *secret, dp_hooks *hooks)
{
    dp_list_options options = {.size = sizeof options, .medium = medium, .secret = secret,
                               .entry = on_entry, .hooks = hooks};
    return dp_list(&options, NULL);
}

static void print_read(const char *done, const dp_read_result *result)
{
    printf("%s %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " others\n", done,
           result->files, result->directories, result->others);
}

static dp_status verify(const char *medium, const dp_secret *secret, dp_hooks *hooks)
{
    dp_verify_options options = {.size = sizeof options, .medium = medium, .secret = secret,
                                 .hooks = hooks};
    dp_read_result result = {.size = sizeof result};
    dp_status status = dp_verify(&options, &result);
    if (status == DP_OK || status == DP_INCOMPLETE)
        print_read("verified", &result);
    return status;
}

static dp_status restore(char **arguments, const dp_secret *secret, dp_hooks *hooks)
{
    dp_restore_options options = {.size = sizeof options, .medium = arguments[0],
                                  .secret = secret, .destination = arguments[1], .hooks = hooks};
    dp_read_result result = {.size = sizeof result};
    dp_status status = dp_restore(&options, &result);
    if (status == DP_OK || status == DP_INCOMPLETE)
        print_read("restored", &result);
    return status;
}

static int usage(void)
{
    fputs("usage: backup backup MEDIUM SOURCE... | list MEDIUM | verify MEDIUM |"
          " restore MEDIUM DIRECTORY\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (dp_version_check(DP_VERSION) != DP_OK) {
        fprintf(stderr, "backup: libdatapipe %s does not suit this program\n", dp_version_text());
        return 1;
    }
    if (argc < 3 || dp_cancel_new(&token) != DP_OK)
        return usage();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    dp_log_set(on_message, NULL, DP_LOG_WARNING);

    dp_hooks hooks = {.size = sizeof hooks, .cancel = token, .progress = on_progress,
                      .problem = on_problem};
    dp_secret key = {.size = sizeof key, .kind = DP_SECRET_KEY_FILE,
                     .path = getenv("BACKUP_KEY_FILE")};
    const dp_secret *secret = key.path ? &key : NULL;
    dp_status status;
    if (strcmp(argv[1], "backup") == 0 && argc >= 4)
        status = back_up(argc - 2, argv + 2, secret, &hooks);
    else if (strcmp(argv[1], "list") == 0 && argc == 3)
        status = list(argv[2], secret, &hooks);
    else if (strcmp(argv[1], "verify") == 0 && argc == 3)
        status = verify(argv[2], secret, &hooks);
    else if (strcmp(argv[1], "restore") == 0 && argc == 4)
        status = restore(argv + 2, secret, &hooks);
    else
        return usage();
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (status >= 100)
        fprintf(stderr, "backup: %s\n", dp_error_message(0));
    dp_cancel_free(token);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "backup: cannot write to standard output: %s\n", strerror(errno));
        return 1;
    }
    return status == DP_OK ? 0 : status == DP_INCOMPLETE ? 3 : 1;
}
