/* recipe_keys.c - the language of recipes, as one table. To add a key: a field in recipe.h, a row
 * here, its default in recipe.c, and `drover train --keys` and the man page know it. */
#include <string.h>
#include "train/recipe.h"

#define AT(f) offsetof(recipe, f)
#define PHASE(f) offsetof(recipe_phase, f)
#define SOURCE(f) offsetof(recipe_source, f)
#define COUNT_MAX 9e18
#define END { .name = NULL }

static const recipe_key model_keys[] = {
    { "init", RK_STR, AT(model.init),
      "model to begin with: any that `drover run` takes; with random, only its shape and tokenizer" },
    { "random", RK_BOOL, AT(model.random), "begin with random weights (default false)" },
    { "shape", RK_STR, AT(model.shape),
      "instead of init: a shape as `drover synth` takes it; only for --dry-run" },
    { "std", RK_REAL, AT(model.std), "deviation of random weights (default 0.02)", 1e-6, 1 },
    END
};

static const recipe_key data_keys[] = {
    { "name", RK_STR, SOURCE(name), "what messages call it (default: its path)" },
    { "path", RK_STR, SOURCE(path), "shards that `drover prep` made: a folder or a file" },
    { "weight", RK_REAL, SOURCE(weight), "share of the rows, any unit (default 1)", 0, 1e9 },
    END
};

static const recipe_key optimizer_keys[] = {
    { "kind", RK_CHOICE, AT(optim.rule), "adamw|adamw8|muon|sgd: (default adamw)" },
    { "beta1", RK_REAL, AT(optim.beta1), "AdamW (default 0.9)", 0, 1 },
    { "beta2", RK_REAL, AT(optim.beta2), "AdamW (default 0.95)", 0, 1 },
    { "eps", RK_REAL, AT(optim.eps), "AdamW (default 1e-8)", 0, 1 },
    { "weight_decay", RK_REAL, AT(optim.decay), "w -= lr * this * w (default 0.1; sgd: 0)", 0, 10 },
    { "decay_embedding", RK_BOOL, AT(optim.decay_embedding), "of the embedding too (default true)" },
    { "decay_head", RK_BOOL, AT(optim.decay_head), "of the head too (default true)" },
    { "decay_vectors", RK_BOOL, AT(optim.decay_vectors), "of the norms too (default false)" },
    { "clip", RK_REAL, AT(optim.clip), "largest norm of the gradient; 0: any (default 1)", 0, 1e9 },
    { "momentum", RK_REAL, AT(optim.momentum), "Muon (default 0.95), SGD (0)", 0, 1 },
    { "dampening", RK_REAL, AT(optim.dampening), "SGD (default 0)", 0, 1 },
    { "nesterov", RK_BOOL, AT(optim.nesterov), "Muon (default true), SGD (false)" },
    { "rest", RK_CHOICE, AT(optim.rest),
      "adamw|adamw8|muon|sgd: with Muon: of embedding, head and norms (default adamw)" },
    { "rest_lr", RK_REAL, AT(optim.rest_lr), "with Muon: their rate, times lr (default 1)", 0, 1e6 },
    { "adjust", RK_CHOICE, AT(optim.adjust),
      "original|match-adamw|plain: Muon's factor for a matrix's shape (default match-adamw)" },
    { "ns_steps", RK_INT, AT(optim.ns_steps), "Muon: Newton-Schulz steps (default 5)", 1, 20 },
    END
};

static const recipe_key phase_keys[] = {
    { "until_tokens", RK_COUNT, PHASE(until_tokens),
      "the phase ends here, counted from the run's first token", 1, COUNT_MAX },
    { "seq", RK_INT, PHASE(seq), "positions of a row", 1, SCHED_MAX_SEQ },
    { "batch_tokens", RK_COUNT, PHASE(batch_tokens), "of a step, all ranks together", 1, 1e12 },
    { "mix", RK_REALS, PHASE(mix), "a weight for each source (default: the sources' own)", 0, 1e9 },
    { "lr", RK_CHOICE, PHASE(law),
      "keep|constant|linear|cosine|wsd|wsd-sqrt: law of the rate (default cosine; later phases keep)" },
    { "peak", RK_REAL, PHASE(peak), "highest rate; left out: what the law before has here", 0, 100 },
    { "end", RK_REAL, PHASE(end), "rate at the end of the law (default 0)", 0, 100 },
    { "by", RK_CHOICE, PHASE(by_tokens), "steps|tokens: unit of the next three (default steps)" },
    { "warmup", RK_COUNT, PHASE(warmup), "linearly up to the peak (default 0)", 0, COUNT_MAX },
    { "decay", RK_COUNT, PHASE(decay), "wsd: the last so many (default 0)", 0, COUNT_MAX },
    { "length", RK_COUNT, PHASE(length), "of the whole law (default: to the last phase that keeps it)",
      0, COUNT_MAX },
    { "tp", RK_INT, PHASE(tp), "tensor parallel ranks: for --dry-run only (default 1)", 1, 4096 },
    { "cp", RK_INT, PHASE(cp), "context parallel ranks: for --dry-run only (default 1)", 1, 4096 },
    { "pp", RK_INT, PHASE(pp), "pipeline stages: for --dry-run only (default 1)", 1, 4096 },
    END
};

static const recipe_key eval_keys[] = {
    { "path", RK_STR, AT(eval.path), "shards to evaluate on, never trained on" },
    { "every", RK_COUNT, AT(eval.every), "steps; 0: never (default 0)", 0, COUNT_MAX },
    { "tokens", RK_COUNT, AT(eval.tokens), "of it at most (default 64K)", 1, 1e12 },
    { "seq", RK_INT, AT(eval.seq), "positions of a row (default: the phase's)", 1, SCHED_MAX_SEQ },
    END
};

static const recipe_key sample_keys[] = {
    { "prompts", RK_STRS, AT(sample.prompts), "texts to go on from" },
    { "every", RK_COUNT, AT(sample.every), "steps; 0: never (default 0)", 0, COUNT_MAX },
    { "tokens", RK_INT, AT(sample.tokens), "of each (default 64)", 1, 65536 },
    { "temperature", RK_REAL, AT(sample.temperature), "0: always the best (default 0.8)", 0, 10 },
    END
};

static const recipe_key checkpoint_keys[] = {
    { "every", RK_COUNT, AT(checkpoint.every), "steps; 0: only at the end (default 100)", 0, COUNT_MAX },
    { "keep_last", RK_INT, AT(checkpoint.keep_last), "the newest are kept (default 2)", 1, 100000 },
    { "keep_best", RK_INT, AT(checkpoint.keep_best),
      "so are those with the lowest evaluation loss (default 1)", 0, 100000 },
    END
};

static const recipe_key guard_keys[] = {
    { "action", RK_CHOICE, AT(guard.action),
      "skip|rewind|stop|off: what is done with a step whose loss or norm is no number or a spike "
      "(default skip)" },
    { "sigmas", RK_REAL, AT(guard.sigmas),
      "a spike: so many deviations above the last steps' mean loss, (default 6)", 1, 1e6 },
    { "factor", RK_REAL, AT(guard.factor), "and so many times it (default 1.2)", 1, 1e6 },
    { "window", RK_INT, AT(guard.window), "the last steps (default 64)", 8, 4096 },
    { "max", RK_INT, AT(guard.max), "in one run; then it stops (default 10)", 0, 1000000 },
    END
};

static const recipe_key logs_keys[] = {
    { "every", RK_COUNT, AT(log.every), "steps (default 1)", 1, COUNT_MAX },
    { "tensorboard", RK_BOOL, AT(log.tensorboard), "event files besides log.jsonl (default true)" },
    { "curve", RK_BOOL, AT(log.curve), "loss.svg at the end, where gnuplot is there (default true)" },
    END
};

const recipe_key recipe_keys[] = {
    { "name", RK_STR, AT(name), "what the run is called (default: the file's name)" },
    { "summary", RK_STR, AT(summary), "one line that says what it is" },
    { "open", RK_STRS, AT(open), "what the source of the recipe leaves open; --dry-run shows it" },
    { "out", RK_STR, AT(out), "folder of the run: checkpoints, logs, samples" },
    { "seed", RK_COUNT, AT(seed), "order of the data, random weights, samples (default 1)", 0, COUNT_MAX },
    { "precision", RK_CHOICE, AT(precision), "bf16|f32: of weights and activations (default bf16)" },
    { "recompute", RK_INT, AT(recompute),
      "0: keep all activations; 1: compute norms and SwiGLU again; 2: whole layers (default 0)", 0, 2 },
    { "micro_tokens", RK_COUNT, AT(micro_tokens),
      "tokens of a micro-batch (default: a rank's share of the batch, at most 4096 or one row)",
      1, 1 << 24 },
    { "peak_tflops", RK_REAL, AT(peak_tflops),
      "what MFU is a share of (default: measured at the start)", 0, 1e9 },
    { "model", RK_MAP, 0, "what is trained", .sub = model_keys },
    { "data", RK_LIST, AT(source), "what it is trained on", .sub = data_keys,
      .size = sizeof(recipe_source), .count = AT(n_sources), .max = LOADER_SOURCES },
    { "optimizer", RK_MAP, 0, "how", .sub = optimizer_keys },
    { "phases", RK_LIST, AT(phase), "and for how long", .sub = phase_keys,
      .size = sizeof(recipe_phase), .count = AT(n_phases), .max = SCHED_PHASES },
    { "eval", RK_MAP, 0, "evaluation loss", .sub = eval_keys },
    { "sample", RK_MAP, 0, "texts of the model under training", .sub = sample_keys },
    { "checkpoint", RK_MAP, 0, "checkpoints", .sub = checkpoint_keys },
    { "guard", RK_MAP, 0, "loss spikes and numbers that are none", .sub = guard_keys },
    { "log", RK_MAP, 0, "logs", .sub = logs_keys },
    END
};

static void each(const recipe_key *keys, const char *path,
                 void (*fn)(void *arg, const char *path, const recipe_key *k), void *arg)
{
    for (const recipe_key *k = keys; k->name; k++) {
        char at[RECIPE_KEY_MAX];
        snprintf(at, sizeof at, "%.40s%s%.40s%s", path, *path ? "." : "", k->name,
                 k->kind == RK_LIST ? ".N" : "");
        fn(arg, at, k);
        if (k->sub) each(k->sub, at, fn, arg);
    }
}

void recipe_each_key(void (*fn)(void *arg, const char *path, const recipe_key *k), void *arg)
{
    each(recipe_keys, "", fn, arg);
}

const char *recipe_kind_name(recipe_kind k)
{
    static const char *const name[] = {
        [RK_STR] = "text", [RK_INT] = "number", [RK_COUNT] = "count", [RK_REAL] = "real",
        [RK_BOOL] = "bool", [RK_CHOICE] = "choice", [RK_STRS] = "texts", [RK_REALS] = "reals",
        [RK_MAP] = "map", [RK_LIST] = "list"
    };
    return name[k];
}
