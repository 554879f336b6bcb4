/* ids_file.h - an ids file is decimal token ids separated by white space. */
#ifndef CLI_IDS_FILE_H
#define CLI_IDS_FILE_H
#include "text/tokenizer.h"

/* All ids of the file (stdin when "-"); anything else in it is an error with its line. */
int ids_read(ids *v, const char *path, dr_err *e);
#endif
