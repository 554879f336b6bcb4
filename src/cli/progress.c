/* progress.c - see progress.h. */
#include "cli/progress.h"
#include <math.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/os.h"

char *size_text(char s[SIZE_TEXT], double bytes)
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB" };
    int u = 0;
    while (u < 4 && bytes >= (u ? 999.5 : 1000)) bytes /= 1000, u++;
    snprintf(s, SIZE_TEXT, u && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return s;
}

void progress_begin(progress *p, const char *what, int64_t total)
{
    *p = (progress){ .total = total, .on = isatty(2) };
    snprintf(p->what, sizeof p->what, "%s", what);
}

static int columns(void)
{
    struct winsize w;
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void draw(const progress *p)
{
    char done[SIZE_TEXT], total[SIZE_TEXT], rate[SIZE_TEXT], left[32] = "", line[256], bar[64];
    double share = p->total > 0 ? (double)p->done / (double)p->total : 0;
    if (share > 1) share = 1;
    if (p->rate > 0 && p->total > p->done) {
        double s = ceil((double)(p->total - p->done) / p->rate);
        if (s < 60) snprintf(left, sizeof left, "%.0f s left", s);
        else if (s < 5940) snprintf(left, sizeof left, "%.0f min left", s / 60);
        else snprintf(left, sizeof left, "%.1f h left", s / 3600);
    }
    int n = snprintf(line, sizeof line, " %3.0f %%  %s of %s  %s/s  %s", share * 100,
                     size_text(done, (double)p->done), size_text(total, (double)p->total),
                     size_text(rate, p->rate), left);
    int cols = columns(), name = cols < 70 ? 16 : 32, room = cols - 1 - name - n - 3;
    if (room > 40) room = 40;
    int full = room > 0 ? (int)(share * room) : 0;
    for (int i = 0; i < room; i++) bar[i] = i < full ? '#' : '.';
    bar[room > 0 ? room : 0] = 0;
    fprintf(stderr, "\r\033[K%.*s%s%s%s%.*s", name, p->what, room > 4 ? " [" : "",
            room > 4 ? bar : "", room > 4 ? "]" : "", cols - 1 - name, line);
    fflush(stderr);
}

void progress_set(progress *p, int64_t done)
{
    p->done = done;
    if (!p->on) return;
    int64_t now = os_now_ns(), passed = now - p->shown_at;
    if (!p->started || done < p->shown_done) {
        p->started = true, p->rate = 0;
    } else {
        if (passed < 100000000) return;
        double r = (double)(done - p->shown_done) * 1e9 / (double)passed;
        double keep = p->rate > 0 ? exp(-(double)passed / 3e9) : 0;      /* over about 3 s */
        p->rate = p->rate * keep + r * (1 - keep);
    }
    p->shown_at = now, p->shown_done = done;
    draw(p);
}

void progress_end(progress *p)
{
    if (p->on && p->started) fputs("\r\033[K", stderr);
    p->started = false;
}
