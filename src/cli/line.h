/* line.h - texts typed at a terminal, with editing and history (libedit), and Ctrl-C.
 * Threads: one at a time. */
#ifndef CLI_LINE_H
#define CLI_LINE_H
#include <stdbool.h>
#include "base/buf.h"

/* Set by Ctrl-C while something runs; hand its address to what can be stopped. A second
 * Ctrl-C, before the first had an effect, ends the program. */
extern volatile int interrupted;
void interrupt_catch(void);            /* from now on Ctrl-C sets the flag */
void interrupt_reset(void);

typedef struct line_editor line_editor;
/* file: the history, read now and written at the end; NULL: none. */
line_editor *line_open(const char *file, dr_err *e);
void line_close(line_editor *l);

typedef enum { LINE_TEXT, LINE_END, LINE_INTERRUPT } line_event;
/* One text into *text: a line, or several between """ or with a backslash at their ends. */
line_event line_read(line_editor *l, buf *text);
/* ~/.local/state/drover/history or its XDG place; the folder is made. "" when there is none. */
void line_history_path(buf *path);
#endif
