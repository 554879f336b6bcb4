/* cloud.h - the contracts by which platforms start a container and ask it: Amazon SageMaker's and Google Vertex
 * AI's. Both say by the environment where to listen; requests are OpenAI's at a path of theirs.
 *
 *     SageMaker   IMAGE serve; the model in /opt/ml/model; GET /ping, POST /invocations on $SAGEMAKER_BIND_TO_PORT, 8080
 *     Vertex AI   0.0.0.0:$AIP_HTTP_PORT, GET $AIP_HEALTH_ROUTE, POST $AIP_PREDICT_ROUTE */
#ifndef SERVE_CLOUD_H
#define SERVE_CLOUD_H
#include "serve/http.h"

typedef struct {
    const char *platform;       /* "SageMaker", "Vertex AI"; NULL: neither started this process */
    int port;
    char model[4096];           /* "": none was found */
} cloud;

/* Reads the environment, and makes the platform's routes. has_model: models were named, none is looked for. */
int cloud_read(cloud *c, bool has_model, dr_err *e);
/* The model that lies in a folder: the folder itself, or the one GGUF file in it. */
int cloud_model_in(const char *folder, char *path, size_t n, dr_err *e);
/* Rows that come before all others: Vertex' health route may be one that means something else here. */
extern http_route cloud_routes[];
#endif
