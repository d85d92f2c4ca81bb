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
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason := s.unready(); reason != "" {
			answerText(w, http.StatusServiceUnavailable, "not ready: "+reason)
			return
		}
		answerText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /version", s.version)

	mux.HandleFunc("GET "+nodesPath, answering(s.listNodes))
	mux.HandleFunc("GET "+nodesPath+"/{name}", answering(s.getNode))
	mux.HandleFunc("POST "+nodesPath, identified(s.createNode))
	mux.HandleFunc("DELETE "+nodesPath+"/{name}", identified(s.deleteNode))
	mux.HandleFunc("PUT "+nodesPath+"/{name}/status", identified(s.replaceNodeStatus))
	mux.HandleFunc("PATCH "+nodesPath+"/{name}/status", identified(s.patchNodeStatus))

	mux.HandleFunc("GET "+slicesPath, func(w http.ResponseWriter, r *http.Request) {
		if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
			s.watchSlices(w, r)
			return
		}
		answering(s.listSlices)(w, r)
	})
	mux.HandleFunc("GET "+slicesPath+"/{name}", answering(s.getSlice))
	mux.HandleFunc("/", answering(func(r *http.Request) (any, error) {
		return nil, &apiError{http.StatusNotFound, "NotFound",
			fmt.Sprintf("%s %s: the lab's built-in API server does not have this", r.Method, r.URL.Path)}
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "muster lab API server (built in)")
		control := http.NewResponseController(w)
		deadline := time.Now().Add(bodyTimeout)
		// A connection that cannot have deadlines does not exist here.
		_ = errors.Join(control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline))
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		mux.ServeHTTP(w, r)
	})
}

// apiError is an error that has a code and a reason of Kubernetes.
type apiError struct {
	code    int
	reason  string
	message string
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "BadRequest", fmt.Sprintf(format, args...)}
}

// created is an answer with status 201.
type created struct{ object any }

// answering turns a function that returns an object into a handler.
func answering(act func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		object, err := act(r)
		if err != nil {
			answerError(w, err)
			return
		}
		code := http.StatusOK
		if made, ok := object.(created); ok {
			code, object = http.StatusCreated, made.object
		}
		answerJSON(w, code, object)
	}
}

// identified is answering for those who have a client certificate of the
// client CA. Having got this far with one means that it was verified.
func identified(act func(*http.Request) (any, error)) http.HandlerFunc {
	return answering(func(r *http.Request) (any, error) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return nil, &apiError{http.StatusUnauthorized, "Unauthorized", "a client certificate is needed to change anything"}
		}
		return act(r)
	})
}

// version answers /version.
func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	number, _, _ := strings.Cut(strings.TrimPrefix(s.cfg.Version, "v"), "-")
	major, rest, _ := strings.Cut(number, ".")
	minor, _, _ := strings.Cut(rest, ".")
	answerJSON(w, http.StatusOK, map[string]string{
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

func answerText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	io.WriteString(w, text) // a client that went away is no fault
}

func answerJSON(w http.ResponseWriter, code int, object any) {
	text, err := json.Marshal(object)
	if err != nil {
		answerError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(text, '\n'))
}

// answerError answers with a Status. An error that is not an apiError is the
// server's own.
func answerError(w http.ResponseWriter, err error) {
	known := (*apiError)(nil)
	if !errors.As(err, &known) {
		known = &apiError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	answerJSON(w, known.code, status{
		typeMeta: typeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Message: known.message, Reason: known.reason, Code: known.code,
	})
}

// notFound turns an object's absence into an answer.
func notFound(err error, resource, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &apiError{http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", resource, name)}
	}
	return err
}
