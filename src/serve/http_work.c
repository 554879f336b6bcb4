/* http_work.c - the workers, who run the routes' handlers, and how a reply is woken. */
#include <errno.h>
#include <unistd.h>
#include "base/mem.h"
#include "serve/http_priv.h"

enum { WORKERS_MOST = 32 };

/* Under h->lock: on the list of those that the loop looks at. */
static void put_woken(http *h, http_conn *c)
{
    if (c->woken) return;
    c->woken = true;
    bool first = !h->woken;
    c->next_woken = h->woken;
    h->woken = c;
    uint64_t one = 1;
    while (first && write(h->wake, &one, sizeof one) < 0 && errno == EINTR) {}
}

void http_wake(http_conn *c)
{
    http *h = c->h;
    pthread_mutex_lock(&h->lock);
    put_woken(h, c);
    pthread_mutex_unlock(&h->lock);
}

static void *work(void *arg)
{
    http *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (!h->jobs && !h->end) pthread_cond_wait(&h->work, &h->lock);
        http_conn *c = h->jobs;
        if (!c) break;
        h->jobs = c->next_woken;
        h->n_jobs--;
        h->n_taken++;
        pthread_mutex_unlock(&h->lock);
        c->route->handle(&c->req, &c->reply);
        pthread_mutex_lock(&h->lock);
        c->job_done = true;
        put_woken(h, c);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

bool work_push(http *h, http_conn *c)
{
    pthread_mutex_lock(&h->lock);
    bool room = h->n_jobs < h->o.max_jobs;
    if (room) {
        c->next_woken = NULL;
        if (h->jobs) h->jobs_tail->next_woken = c;
        else h->jobs = c;
        h->jobs_tail = c;
        h->n_jobs++;
        pthread_cond_signal(&h->work);
    }
    pthread_mutex_unlock(&h->lock);
    return room;
}

int work_start(http *h, dr_err *e)
{
    int most = h->o.workers > WORKERS_MOST ? h->o.workers : WORKERS_MOST;
    h->worker = mem_zalloc((size_t)most, sizeof *h->worker);
    if (!h->worker) return err_nomem(e, (size_t)most * sizeof *h->worker, "workers");
    for (; h->n_workers < h->o.workers; h->n_workers++)
        if (pthread_create(&h->worker[h->n_workers], NULL, work, h))
            return err_set(e, DR_ENOMEM, "cannot start worker thread %d", h->n_workers + 1);
    return DR_OK;
}

void work_look(http *h)
{
    pthread_mutex_lock(&h->lock);
    bool stuck = h->n_jobs && h->n_taken == h->taken_before && h->n_workers < WORKERS_MOST;
    h->taken_before = h->n_taken;
    pthread_mutex_unlock(&h->lock);
    if (stuck && !pthread_create(&h->worker[h->n_workers], NULL, work, h)) h->n_workers++;
}

void work_stop(http *h)
{
    pthread_mutex_lock(&h->lock);
    h->end = true;
    pthread_cond_broadcast(&h->work);
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < h->n_workers; i++) pthread_join(h->worker[i], NULL);
    mem_free(h->worker);
    h->worker = NULL, h->n_workers = 0;
}
