#include "app/app.h"
#include "cli/cli.h"

int main(int argc, char** argv) { return mayfly::run_cli(argc, argv, mayfly::serve, mayfly::doctor); }
