/* chat_kind.c - the prompt formats by name, and which one a template's text is. A template is
 * known when it has every feature of one format and no piece of text that the format does not
 * print: a changed default system message or an unknown tag makes it unknown. */
#include <string.h>
#include "text/chat.h"

static const char *const kind_name[CHAT_N] = {
    [CHAT_LLAMA3_HF] = "llama3", [CHAT_LLAMA3_META] = "llama3-meta",
    [CHAT_LLAMA3_0] = "llama3.0", [CHAT_LLAMA3_2_HF] = "llama3.2", [CHAT_LLAMA2] = "llama2",
    [CHAT_CHATML] = "chatml", [CHAT_SMOLLM2] = "smollm2", [CHAT_ZEPHYR] = "zephyr",
    [CHAT_MISTRAL] = "mistral", [CHAT_MISTRAL_V0] = "mistral-v0",
    [CHAT_MISTRAL_V0_1] = "mistral-v0.1", [CHAT_MISTRAL_V3] = "mistral-v3",
    [CHAT_JINJA] = "jinja",
};

const char *chat_name(chat_kind k) { return (unsigned)k < CHAT_N ? kind_name[k] : "?"; }

bool chat_has_tools(chat_kind k)
{
    return k == CHAT_LLAMA3_HF || k == CHAT_LLAMA3_2_HF || k == CHAT_LLAMA3_META
        || k == CHAT_MISTRAL_V3 || k == CHAT_JINJA;
}

int chat_by_name(const char *name, chat_kind *k, dr_err *e)
{
    char all[256];
    size_t at = 0;
    for (int i = 0; i < CHAT_N; i++) {
        if (!strcmp(name, kind_name[i])) {
            *k = (chat_kind)i;
            return DR_OK;
        }
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", kind_name[i]);
    }
    return err_set(e, DR_EINVAL, "unknown prompt format '%.40s'; known are %s", name, all);
}

/* What a template of each kind contains, and the quoted texts that it may contain (NULL: any;
 * then only tags are looked at). Escapes are undone before texts are compared. */
static const struct {
    chat_kind kind;
    const char *must[9], *never[3], *text[16];
} known[] = {
    { CHAT_LLAMA3_HF,
      { "<|start_header_id|>", "Cutting Knowledge Date: December 2023\\n", "\"26 Jul 2024\"",
        "Environment: ipython\\n", "builtin_tools is defined", "tools_in_user_message = true",
        "single tool-calls at once!", "tojson(indent=4)" }, { "strftime_now" }, { NULL } },
    { CHAT_LLAMA3_2_HF,
      { "<|start_header_id|>", "Cutting Knowledge Date: December 2023\\n",
        "strftime_now(\"%d %b %Y\")", "Environment: ipython\\n", "tools_in_user_message = true",
        "single tool-calls at once!", "tojson(indent=4)" }, { "builtin_tools" }, { NULL } },
    { CHAT_LLAMA3_0,
      { "bos_token", "| trim", "<|eot_id|>" }, { NULL },
      { "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "role", "content",
        "<|start_header_id|>assistant<|end_header_id|>\n\n" } },
    { CHAT_LLAMA2,
      { "bos_token + '[INST] '", "content.strip()", "' ' + eos_token", "<<SYS>>" }, { "true ==" },
      { "role", "content", "system", "user", "assistant", "<<SYS>>\n", "\n<</SYS>>\n\n",
        "[INST] ", " [/INST]", " " } },
    { CHAT_CHATML,
      { "'<|im_start|>' + message['role'] + '", "add_generation_prompt" }, { "bos_token" },
      { "<|im_start|>", "<|im_end|>", "\n", "<|im_end|>\n", "role", "content",
        "<|im_start|>assistant\n" } },
    { CHAT_SMOLLM2,
      { "'<|im_start|>' + message['role'] + '", "loop.first", "named SmolLM,",
        "add_generation_prompt" }, { "bos_token" },
      { "<|im_start|>", "<|im_end|>", "\n", "<|im_end|>\n", "role", "content", "system",
        "<|im_start|>assistant\n", "<|im_start|>system\nYou are a helpful AI assistant named "
        "SmolLM, trained by Hugging Face<|im_end|>\n" } },
    { CHAT_ZEPHYR,
      { "<|user|>", "eos_token }}\n", "loop.last and add_generation_prompt" }, { "bos_token" },
      { "role", "content", "system", "user", "assistant", "<|system|>\n", "<|user|>\n",
        "<|assistant|>\n", "<|assistant|>" } },
    { CHAT_MISTRAL,
      { "' [INST] ' + system_message", "bos_token", "eos_token" }, { NULL },
      { "role", "content", "system", "user", "assistant", " [INST] ", " [/INST]", "\n\n", " " } },
    { CHAT_MISTRAL_V0,
      { "bos_token }}", "'[INST] ' + message['content'] + ' [/INST]'", "+ eos_token}}" },
      { NULL }, { "role", "content", "user", "assistant", "[INST] ", " [/INST]" } },
    { CHAT_MISTRAL_V0_1,
      { "bos_token }}", "'[INST] ' + message['content'] + ' [/INST]'", "+ eos_token + ' '" },
      { NULL }, { "role", "content", "user", "assistant", "[INST] ", " [/INST]", " " } },
    { CHAT_MISTRAL_V3,
      { "\"[AVAILABLE_TOOLS] [\"", "\"[INST] \" + system_message", "\"[TOOL_CALLS] [\"",
        "|trim + eos_token", "loop.last and system_message is defined",
        "'[TOOL_RESULTS] {\"content\": '" }, { "[SYSTEM_PROMPT]" }, { NULL } },
};

static bool has(span s, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= s.n; i++)
        if (!memcmp(s.p + i, what, n)) return true;
    return false;
}

/* Does the quoted text at p (the quote's index) equal one of `text`? *end: past its end. */
static bool text_known(span s, size_t p, const char *const *text, size_t *end)
{
    char lit[200], q = s.p[p++];
    size_t n = 0;
    bool over = false;
    for (; p < s.n && s.p[p] != q; p++) {
        char c = s.p[p];
        if (c == '\\' && p + 1 < s.n) c = s.p[++p] == 'n' ? '\n' : s.p[p];
        if (n + 1 < sizeof lit) lit[n++] = c;
        else over = true;
    }
    *end = p + 1;
    lit[n] = 0;
    /* what is said when roles do not alternate */
    if (strstr(lit, "roles must alternate") || !strncmp(lit, "Only user", 9)) return true;
    for (int i = 0; i < 16 && text[i]; i++)
        if (!over && !strcmp(lit, text[i])) return true;
    return false;
}

/* +1 for a tag that opens a block, -1 for one that closes it; p is past the "{%". */
static int depth_of(span s, size_t p)
{
    while (p < s.n && (s.p[p] == '-' || s.p[p] == ' ')) p++;
    span rest = { s.p + p, s.n - p };
    if (rest.n > 2 && (!memcmp(rest.p, "if ", 3))) return 1;
    if (rest.n > 3 && (!memcmp(rest.p, "for ", 4))) return 1;
    if (rest.n > 4 && !memcmp(rest.p, "endif", 5)) return -1;
    return rest.n > 5 && !memcmp(rest.p, "endfor", 6) ? -1 : 0;
}

/* Every quoted text is one of `text`, nothing but white space is outside {{ }} and {% %}, and
 * every block is closed. */
static bool only_texts(span s, const char *const *text)
{
    bool inside = false;
    int depth = 0;
    for (size_t i = 0; i < s.n; ) {
        char c = s.p[i], d = i + 1 < s.n ? s.p[i + 1] : 0;
        if (!inside) {
            if (c == '{' && d == '%') depth += depth_of(s, i + 2);
            if (c == '{' && (d == '{' || d == '%')) inside = true, i++;
            else if (!strchr(" \n\r\t", c)) return false;
            i++;
        } else if (c == '\'' || c == '"') {
            if (!text_known(s, i, text, &i)) return false;
        } else {
            if ((c == '}' || c == '%') && d == '}') inside = false, i++;
            i++;
        }
    }
    return !inside && depth == 0;
}

/* Every <|tag|> is one of Llama 3's. */
static bool only_llama3_tags(span s)
{
    static const char *const tag[] = { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                       "<|eom_id|>", "<|python_tag|>", "<|begin_of_text|>" };
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] != '<' || s.p[i + 1] != '|') continue;
        bool ok = false;
        for (size_t k = 0; k < sizeof tag / sizeof tag[0]; k++) {
            size_t n = strlen(tag[k]);
            ok |= i + n <= s.n && !memcmp(s.p + i, tag[k], n);
        }
        if (!ok) return false;
    }
    return true;
}

static bool fits(size_t k, span s)
{
    for (int i = 0; i < 9 && known[k].must[i]; i++)
        if (!has(s, known[k].must[i])) return false;
    for (int i = 0; i < 3 && known[k].never[i]; i++)
        if (has(s, known[k].never[i])) return false;
    if (known[k].text[0]) return only_texts(s, known[k].text);
    return only_llama3_tags(s);
}

int chat_detect_text(span tmpl, chat_kind *k, dr_err *e)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (fits(i, tmpl)) {
            *k = known[i].kind;
            return DR_OK;
        }
    char start[61];
    size_t n = tmpl.n < 60 ? tmpl.n : 60;
    memcpy(start, tmpl.p, n);
    start[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)start[i] < 32) start[i] = ' ';
    return err_set(e, DR_EUNSUPPORTED, "this model's chat template is not one that drover knows: it "
                   "begins \"%s\"", start);
}
