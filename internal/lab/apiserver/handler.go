package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"runtime"
	"strings"
	"time"
)

const (
	nodesPath  = "/api/v1/nodes"
	slicesPath = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
)

// handler routes requests.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason := s.unready(); reason != "" {
			writeText(w, http.StatusServiceUnavailable, "not ready: "+reason)
			return
		}
		writeText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /version", s.version)

	mux.HandleFunc("GET "+nodesPath, handlerOf(s.listNodes))
	mux.HandleFunc("GET "+nodesPath+"/{name}", handlerOf(s.getNode))
	mux.HandleFunc("POST "+nodesPath, requireClientCert(s.createNode))
	mux.HandleFunc("DELETE "+nodesPath+"/{name}", requireClientCert(s.deleteNode))
	mux.HandleFunc("PUT "+nodesPath+"/{name}/status", requireClientCert(s.replaceNodeStatus))
	mux.HandleFunc("PATCH "+nodesPath+"/{name}/status", requireClientCert(s.patchNodeStatus))

	mux.HandleFunc("GET "+slicesPath, func(w http.ResponseWriter, r *http.Request) {
		if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
			s.watchSlices(w, r)
			return
		}
		handlerOf(s.listSlices)(w, r)
	})
	mux.HandleFunc("GET "+slicesPath+"/{name}", handlerOf(s.getSlice))
	mux.HandleFunc("/", handlerOf(func(r *http.Request) (any, error) {
		return nil, &apiError{http.StatusNotFound, "NotFound",
			fmt.Sprintf("%s %s: the lab's built-in API server does not have this", r.Method, r.URL.Path)}
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "muster lab API server (built in)")
		control := http.NewResponseController(w)
		deadline := time.Now().Add(requestTimeout)
		// Every connection here supports deadlines.
		_ = errors.Join(control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline))
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		mux.ServeHTTP(w, r)
	})
}

// apiError is an error with a code and a reason of Kubernetes.
type apiError struct {
	code    int
	reason  string
	message string
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "BadRequest", fmt.Sprintf(format, args...)}
}

// created is a response with status 201.
type created struct{ object any }

// handlerOf turns a function that returns an object into a handler.
func handlerOf(act func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		object, err := act(r)
		if err != nil {
			writeError(w, err)
			return
		}
		code := http.StatusOK
		if made, ok := object.(created); ok {
			code, object = http.StatusCreated, made.object
		}
		writeJSON(w, code, object)
	}
}

// requireClientCert is handlerOf for clients with a verified certificate of the client CA.
func requireClientCert(act func(*http.Request) (any, error)) http.HandlerFunc {
	return handlerOf(func(r *http.Request) (any, error) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return nil, &apiError{http.StatusUnauthorized, "Unauthorized", "a client certificate is needed to change anything"}
		}
		return act(r)
	})
}

// version handles /version.
func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	number, _, _ := strings.Cut(strings.TrimPrefix(s.cfg.Version, "v"), "-")
	major, rest, _ := strings.Cut(number, ".")
	minor, _, _ := strings.Cut(rest, ".")
	writeJSON(w, http.StatusOK, map[string]string{
		"major": major, "minor": minor, "gitVersion": s.cfg.Version + "+muster.built.in",
		"goVersion": runtime.Version(), "compiler": runtime.Compiler, "platform": runtime.GOOS + "/" + runtime.GOARCH,
	})
}

// readObject reads a JSON body of one of the given media types.
func readObject(r *http.Request, object any, mediaTypes ...string) error {
	given, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	known := false
	for _, mediaType := range mediaTypes {
		known = known || err == nil && given == mediaType
	}
	if !known {
		return &apiError{http.StatusUnsupportedMediaType, "UnsupportedMediaType",
			fmt.Sprintf("content type %q is not %s", r.Header.Get("Content-Type"), strings.Join(mediaTypes, " or "))}
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &apiError{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return badRequest("body: %v", err)
	}
	if err := json.Unmarshal(body, object); err != nil {
		return badRequest("body: %v", err)
	}
	return nil
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	io.WriteString(w, text) // the client may have gone
}

func writeJSON(w http.ResponseWriter, code int, object any) {
	text, err := json.Marshal(object)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(text, '\n'))
}

// writeError responds with a Status. An error that is not an apiError is the server's own.
func writeError(w http.ResponseWriter, err error) {
	known := (*apiError)(nil)
	if !errors.As(err, &known) {
		known = &apiError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	writeJSON(w, known.code, status{
		typeMeta: typeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Message: known.message, Reason: known.reason, Code: known.code,
	})
}

// notFound turns fs.ErrNotExist into an apiError.
func notFound(err error, resource, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &apiError{http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", resource, name)}
	}
	return err
}
