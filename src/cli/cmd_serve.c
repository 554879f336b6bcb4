/* cmd_serve.c - drover serve: models over HTTP. What it does is in src/serve/serve.h. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "cli/cache.h"
#include "cli/model_arg.h"
#include "gen/spec.h"
#include "serve/cloud.h"
#include "serve/serve.h"

typedef struct {
    dev_args dev;
    const char *host, *unix_path, *key_file, *cert, *key;
    opt_list keys, origins, names;
    int port, conns, conns_ip, idle, body_s, ping, workers, jobs, grace;
    size_t max_body, max_bodies, max_head;
    bool public, quiet, lazy;
    int ctx, kv, step, running, waiting, spec, spec_max, unload, open;
    int64_t kv_positions;
    const char *store, *lora_dir;
    size_t store_bytes, budget;
    opt_list adapters, allow;
    bool sandbox;
} args;

static const opt opts[] = {
    { .kind = OPT_HEAD, .help = "Where it listens" },
    { 0, "host", OPT_STR, offsetof(args, host), "ADDRESS", "listen here (127.0.0.1)" },
    { 'p', "port", OPT_INT, offsetof(args, port), "N", "and on this port; 0: any free one (8080)", 0, 65535 },
    { 0, "unix", OPT_STR, offsetof(args, unix_path), "PATH", "listen on a socket in the file system instead" },
    { 0, "tls-cert", OPT_STR, offsetof(args, cert), "FILE", "TLS with this certificate chain (PEM)" },
    { 0, "tls-key", OPT_STR, offsetof(args, key), "FILE", "and its key (PEM)" },
    { .kind = OPT_HEAD, .help = "Who may ask" },
    { 0, "api-key", OPT_LIST, offsetof(args, keys), "[NAME:]KEY[:WEIGHT]",
      "a key that is asked for; may be given again. Others on this machine can see it: see --api-key-file" },
    { 0, "api-key-file", OPT_STR, offsetof(args, key_file), "FILE",
      "keys, one a line; read again at SIGHUP" },
    { 0, "public-without-key", OPT_FLAG, offsetof(args, public), NULL,
      "serve all who reach the address, without a key" },
    { 0, "cors", OPT_LIST, offsetof(args, origins), "ORIGIN",
      "pages of this origin may ask (https://example.org; *: all); may be given again" },
    { 0, "name", OPT_LIST, offsetof(args, names), "HOST",
      "requests for this host are answered too, on loopback without a key; may be given again" },
    { .kind = OPT_HEAD, .help = "Limits" },
    { 0, "max-body", OPT_SIZE, offsetof(args, max_body), "BYTES", "of a request (16M)", 1, 1 << 30 },
    { 0, "max-bodies", OPT_SIZE, offsetof(args, max_bodies), "BYTES",
      "of all requests that are being read or answered (256M)", 1, 1e12 },
    { 0, "max-head", OPT_SIZE, offsetof(args, max_head), "BYTES", "of a request's head (32K)", 1024, 1 << 20 },
    { 0, "max-conns", OPT_INT, offsetof(args, conns), "N",
      "connections; of more, that which is idle for longest leaves (16384)", 1, 1 << 20 },
    { 0, "max-conns-per-ip", OPT_INT, offsetof(args, conns_ip), "N",
      "connections of one address; 0: no limit (0)", 0, 1 << 20 },
    { 0, "idle-timeout", OPT_INT, offsetof(args, idle), "SECONDS",
      "a connection without a request, or whose client takes nothing, ends (120)", 1, 86400 },
    { 0, "read-timeout", OPT_INT, offsetof(args, body_s), "SECONDS",
      "a request has arrived by then (30)", 1, 86400 },
    { 0, "ping", OPT_INT, offsetof(args, ping), "SECONDS",
      "a stream that is silent for so long gets a comment (15)", 1, 86400 },
    { 0, "workers", OPT_INT, offsetof(args, workers), "N",
      "threads that read requests: JSON, templates, grammars (2)", 1, 64 },
    { 0, "max-jobs", OPT_INT, offsetof(args, jobs), "N", "requests that wait for a worker (256)", 1, 1 << 20 },
    { .kind = OPT_HEAD, .help = "Models" },
    { 0, "lora", OPT_LIST, offsetof(args, adapters), "NAME=PATH[:SCALE]",
      "an adapter of the first model, asked for as NAME; may be given again" },
    { 0, "lora-dir", OPT_STR, offsetof(args, lora_dir), "FOLDER",
      "more of them may be loaded from this folder while the server runs (none)" },
    { 0, "lazy", OPT_FLAG, offsetof(args, lazy), NULL, "open the first model too only when it is asked for" },
    { 0, "idle-unload", OPT_INT, offsetof(args, unload), "SECONDS",
      "close a model that nobody asked for so long; 0: never (0)", 0, 1 << 30 },
    { 0, "max-open", OPT_INT, offsetof(args, open), "N",
      "models open at once; the one idle for longest makes room (all)", 1, 1 << 10 },
    { 0, "memory", OPT_SIZE, offsetof(args, budget), "BYTES", "of all open models, in equal shares (what is free)", 1, 1e15 },
    { .kind = OPT_HEAD, .help = "Many replies at once" },
    { 'c', "ctx", OPT_INT, offsetof(args, ctx), "N", "positions of one reply with its prompt (the model's, what fits)",
      1, HP_MAX_CTX },
    { 0, "kv-positions", OPT_INT64, offsetof(args, kv_positions), "N",
      "positions of all replies and kept prefixes together (what fits)", 1, 1e12 },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (f16)" },
    { 0, "parallel", OPT_INT, offsetof(args, running), "N", "replies that are made at once (64)", 1, 4096 },
    { 0, "queue", OPT_INT, offsetof(args, waiting), "N", "requests that wait; more are refused (256)", 1, 1 << 20 },
    { 0, "step", OPT_INT, offsetof(args, step), "N", "tokens of one step, of all replies and prompts (512)",
      16, 1 << 14 },
    { 0, "spec", OPT_CHOICE, offsetof(args, spec), "auto|none|ngram",
      "evaluate guesses of the next tokens while few replies run: from the text so far (auto: ngram)" },
    { 0, "draft-max", OPT_INT, offsetof(args, spec_max), "N", "guesses of one step at most (15)", 1, SPEC_MAX },
    { 0, "prefix-store", OPT_STR, offsetof(args, store), "FOLDER",
      "prompts' beginnings are kept here over a restart (not kept)" },
    { 0, "prefix-store-size", OPT_SIZE, offsetof(args, store_bytes), "BYTES", "of them at most (8G)", 1, 1e15 },
    { .kind = OPT_HEAD, .help = "Running" },
    { 0, "grace", OPT_INT, offsetof(args, grace), "SECONDS",
      "after SIGTERM, for requests that run; a second SIGTERM ends at once (30)", 1, 86400 },
    { 0, "sandbox", OPT_FLAG, offsetof(args, sandbox), NULL,
      "give up all rights that serving does not need: other files, connections, programs (Landlock, seccomp)" },
    { 0, "sandbox-allow", OPT_LIST, offsetof(args, allow), "PATH",
      "with --sandbox: this may be read too, for adapters that are loaded later; may be given again" },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no line for each request on stderr" },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

enum { LIST_ROWS = OPT_LIST_MAX + 1 };

/* The first ends in peace, the second at once, a third by the system's own hand. */
static void on_signal(int sig)
{
    static volatile sig_atomic_t n;
    if (sig == SIGHUP) {
        serve_reload();
    } else {
        serve_stop();
        n = n + 1;
        if (n == 2) signal(SIGTERM, SIG_DFL), signal(SIGINT, SIG_DFL);
    }
}

static void catch(void)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&a.sa_mask);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

/* The log is written by the thread that serves all clients: whoever reads it slowly loses lines, and nobody waits.
 * A pipe that is writable takes PIPE_BUF bytes at once. */
static void log_line(void *arg, const char *line)
{
    static unsigned lost;
    struct pollfd p = { STDERR_FILENO, POLLOUT, 0 };
    (void)arg;
    if (poll(&p, 1, 0) <= 0) {
        lost++;
        return;
    }
    if (lost) fprintf(stderr, "{\"lost\":%u}\n", lost), lost = 0;
    else fprintf(stderr, "%.4000s\n", line);
}

static void log_note(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "drover serve: %s\n", line);
}

static void ready(void *arg, serve *s)
{
    const args *a = arg;
    if (a->unix_path) fprintf(stderr, "drover serve: listening on unix:%s\n", a->unix_path);
    else fprintf(stderr, "drover serve: listening on %s://%s%s%s:%d\n", a->cert ? "https" : "http",
                 strchr(a->host, ':') ? "[" : "", a->host, strchr(a->host, ':') ? "]" : "",
                 http_port(s->http));
}

static void null_ended(const opt_list *l, const char **to)
{
    memcpy(to, l->v, (size_t)l->n * sizeof *to);
    to[l->n] = NULL;
}

/* Where it listens unless options say otherwise. A platform asks for its own keys, before it asks here. */
static void by_platform(const cloud *p, args *a)
{
    if (a->port < 0) a->port = p->port;
    if (!a->host) a->host = p->platform ? "0.0.0.0" : "127.0.0.1";
    if (!p->platform) return;
    if (a->keys.n == 0 && !a->key_file) a->public = true;
    if (!a->quiet) fprintf(stderr, "drover serve: started by %s%s%s\n", p->platform, *p->model ? ": " : "", p->model);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .port = -1, .grace = 30 };
    dr_err e = {0};
    cloud p;
    argc = cmd_parse(c, &a, argc, argv);
    if (cloud_read(&p, argc > 0, &e)) return cmd_fail(c, &e);
    if (argc == 0 && !*p.model) return cmd_misuse(c, "a MODEL operand is wanted");
    const char *found = p.model;
    by_platform(&p, &a);
    const char *keys[LIST_ROWS], *origins[LIST_ROWS], *names[LIST_ROWS], *loras[LIST_ROWS], *allow[LIST_ROWS];
    null_ended(&a.keys, keys);
    null_ended(&a.origins, origins);
    null_ended(&a.names, names);
    null_ended(&a.adapters, loras);
    null_ended(&a.allow, allow);
    serve_opt o = {
        .http = { .address = a.host, .port = a.port, .unix_path = a.unix_path, .keys = keys,
                  .key_file = a.key_file, .cert = a.cert, .key = a.key, .origins = origins, .names = names,
                  .max_body = a.max_body, .max_body_all = a.max_bodies, .max_header = a.max_head,
                  .max_conns = a.conns, .max_conns_per_ip = a.conns_ip, .idle_s = a.idle,
                  .body_s = a.body_s, .ping_s = a.ping, .workers = a.workers, .max_jobs = a.jobs,
                  .log = a.quiet ? NULL : log_line },
        .models = { .path = argc ? (const char *const *)argv : &found, .n = argc ? argc : 1,
                    .resolve = model_resolve,
                    .adapter_dir = a.lora_dir,
                    .dev = dev_args_opt(&a.dev), .lazy = a.lazy, .idle_s = a.unload, .max_open = a.open,
                    .budget = a.budget, .adapters = loras, .log = log_note,
                    .engine = { .n_ctx = a.ctx, .kv_positions = a.kv_positions, .kv_set = true,
                                .kv = kv_choice(a.kv), .step_tokens = a.step, .max_running = a.running,
                                .max_waiting = a.waiting, .spec = a.spec == 1 ? SPEC_NONE : SPEC_NGRAM,
                                .spec_max = a.spec_max, .store = a.store,
                                .store_bytes = (int64_t)a.store_bytes } },
        .grace_s = a.grace, .sandbox = a.sandbox, .allow = allow, .public_without_key = a.public,
        .ready = ready, .arg = &a,
    };
    catch();
    return serve_run(&o, &e) == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_serve = {
    .name = "serve", .group = GROUP_RUN, .synopsis = "[options] MODEL…",
    .summary = "answer requests over HTTP",
    .details =
        "Serves the models to many clients at once, by the APIs of OpenAI, Anthropic and Ollama.\n"
        "docs/serve.md says what they can ask for.\n"
        "\n"
        "SIGTERM and Ctrl-C let what runs come to its end, SIGHUP reads the keys again.\n"
        "\n"
        "Started by systemd, Amazon SageMaker (no MODEL: the one in /opt/ml/model) or Google Vertex AI\n"
        "(AIP_HTTP_PORT) it does what they expect: docs/deploy.md.",
    .min_args = 0, .max_args = -1, .opts = opts, .run = run,
};
