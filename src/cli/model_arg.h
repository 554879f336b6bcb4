/* model_arg.h - what every command that opens a model does with its arguments. */
#ifndef CLI_MODEL_ARG_H
#define CLI_MODEL_ARG_H
#include "cli/cmd.h"
#include "dev/dev.h"
#include "model/model.h"

/* The options that choose the machine; put `{ .kind = OPT_SUB, .at = offsetof(args, dev), .sub =
 * dev_opts }` into a command's table. */
typedef struct { int threads, load, numa; const char *cpu_level, *device; bool verbose; } dev_args;
extern const opt dev_opts[];
dev_opt dev_args_opt(const dev_args *a);

/* The same for the cache: --kv-type. */
#define KV_CHOICES "f16|bf16|f32|q8_0|q4_0"     /* for OPT_CHOICE */
kv_type kv_choice(int i);

/* The adapters: --lora PATH[:SCALE], any number. */
typedef struct { opt_list path; } lora_args;
extern const opt lora_opts[];
int lora_args_apply(const lora_args *a, model *m, dr_err *e);

/* Resolve a short name, open, print the model's warnings on stderr, and with --verbose where its
 * weights and threads are. NULL: *e says why. */
model *model_arg_open(const command *c, const char *arg, const dev_args *a, dr_err *e);
/* The same on the other model's device, so that one set of threads serves both; close it first. */
model *model_arg_open_beside(const command *c, const char *arg, const model *other, dr_err *e);
/* On stderr: [weights: …] and [threads: …]. */
void model_arg_places(const model *m);
/* Print its warnings alone. */
void model_arg_warn(const command *c, const model *m);
#endif
