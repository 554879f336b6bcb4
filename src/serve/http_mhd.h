/* http_mhd.h - libmicrohttpd, loaded when the server starts: linked, it and GnuTLS would cost every start
 * of the program 1.4 ms (base/dl.h). mhd.NAME is the library's MHD_NAME. */
#ifndef SERVE_HTTP_MHD_H
#define SERVE_HTTP_MHD_H
#include <microhttpd.h>
#include "base/err.h"

#define MHD_EACH(X) \
    X(start_daemon) X(stop_daemon) X(quiesce_daemon) X(run) X(get_timeout) X(get_daemon_info) \
    X(get_connection_info) X(suspend_connection) X(resume_connection) X(queue_response) \
    X(create_response_from_callback) X(create_response_from_buffer_with_free_callback_cls) \
    X(add_response_header) X(destroy_response) X(lookup_connection_value) X(is_feature_supported)

typedef struct {
#define X(name) __typeof__(&MHD_##name) name;
    MHD_EACH(X)
#undef X
} mhd_lib;
extern mhd_lib mhd;
int mhd_load(dr_err *e);                 /* any number of times, from one thread */
#endif
