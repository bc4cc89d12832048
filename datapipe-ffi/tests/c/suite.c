/* All test programs in one: its first argument is the name of the program that it runs, and the
 * second one the folder for the files of that program. So each is compiled once, and the libraries,
 * of which the static one is large, are linked once. */
#include <stdio.h>
#include <string.h>

int attach_main(int argc, char **argv);
int daemon_main(int argc, char **argv);
int errors_main(int argc, char **argv);
int growth_main(int argc, char **argv);
int handles_main(int argc, char **argv);
int jobs_main(int argc, char **argv);
int json_main(int argc, char **argv);
int media_main(int argc, char **argv);
int pipes_main(int argc, char **argv);
int random_main(int argc, char **argv);
int serve_main(int argc, char **argv);
void serve_modules(void);
int sessions_main(int argc, char **argv);
int stages_main(int argc, char **argv);

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} programs[] = {
    {"attach", attach_main}, {"errors", errors_main}, {"handles", handles_main},
    {"jobs", jobs_main},     {"pipes", pipes_main},   {"random", random_main},
    {"sessions", sessions_main}, {"stages", stages_main}, {"growth", growth_main},
    {"serve", serve_main}, {"json", json_main}, {"daemon", daemon_main},
    {"media", media_main},
};

int main(int argc, char **argv)
{
    /* The process of a stage has other arguments than the programs. */
    if (argc > 1 && (strcmp(argv[1], "serve") == 0 || argv[1][0] == '-'))
        serve_modules();
    for (size_t i = 0; argc > 1 && i < sizeof programs / sizeof programs[0]; i++)
        if (strcmp(argv[1], programs[i].name) == 0)
            return programs[i].main(argc - 1, argv + 1);
    fprintf(stderr, "no program of the suite is named\n");
    return 2;
}
