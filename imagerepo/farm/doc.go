// Package farm has the deltas of a repository made by other machines.
//
//	builder                                                    workers
//	  images, plan --> jobs --> queue (NATS JetStream) ---------> take those that fit
//	  mirror ---------------- images, by digest, with ranges ---> cache
//	                                                              index, diff or encode
//	  decode, compare <------ delta, resumed -------------------- scratch file
//	  publish
//
// The builder works too: whatever it begins itself leaves the queue. When nothing is left to begin,
// it takes rdiff deltas over from workers, one after another and those begun last first: where the
// images take longer to move than the deltas to make, a farm is no slower than the builder alone.
// Without workers it does all, and no run needs a farm. Package work describes jobs, queue how they
// are handed out, board who has which job, transfer how bytes move, cache what workers keep, secret
// what all have in common.
//
// # Messages
//
// The queue has jobs, as package work writes them. Every second, and before a job is begun, a
// worker says through the queue what it works on,
//
//	{"worker":"w1","running":["<job>"],"fetching":["<job>"]}
//
//	worker    its name: 1 to 100 of letters, digits and -._, and no dot first; it stays the same
//	          when the worker begins again
//	running   the IDs of the jobs that it has begun and not reported, 4096 at most
//	fetching  those of them that wait for their images, or for the delta to verify; missing if none
//
// and the builder replies
//
//	{"url":"https://:4281","stop":["<job>"],"barred":true}
//
//	url       of the images; one without a host has that of the queue
//	stop      which of the jobs it must stop; missing if none
//	barred    it gets no more jobs; missing if it does
//
// So the first worker that lists a job has it. When a job has ended, the worker has sent the delta
// that it made, and reports over HTTP
//
//	{"worker":"w1","job":"<job>","size":1234}
//
//	size        bytes of the delta that it has sent; missing for verify
//	too_large   true: the delta is larger than the limit of the job, and is not sent
//	wrong       true: the delta that was to be verified does not make its target
//	error       why it cannot do the job, up to 2000 bytes
//
// # What is trusted
//
// A token that builder and workers share is all that is secret. Images reach a worker by their
// digests, and are read before they are used. An rdiff delta is decoded by the builder itself
// before it is published. A compact delta is applied by another worker than its maker; where there
// is none, or the builder has nothing else to do, by the builder, which also applies the share
// Options.Recheck of the others. So two workers that agree on a wrong compact delta are believed
// for the rest: workers are trusted as the builder is. A worker that says of a delta that it is
// too large is not believed: the builder makes that itself.
//
// Whoever was wrong once gets no more jobs until the builder's run ends, what it has in work is
// given to others, and what it made or applied and the builder did not check is checked by the
// builder: in this run, or by the next build if this one is stopped.
//
// Who listens on the network gets nothing: off loopback, queue and images have TLS. The builder's
// certificate follows from the token, see package secret.
//
// # What goes wrong
//
//	a worker dies, hangs, is cut off    its job goes to another after 15 s in which the worker did
//	                                    not list it, or after four times what such jobs have
//	                                    taken so far, a minute at least; fetching does not count
//	a link is slow                      likewise if it takes a worker longer to fetch the images
//	                                    than at 256 KiB/s and a minute
//	a worker cannot do a job            likewise at once; it takes the next one after a pause
//	a connection breaks                 images and deltas go on where they stopped
//	the queue dies, is full, or loses   what it held is put there again; the builder goes on
//	three workers cannot do a job       the builder does it, and logs what each said
//	the builder dies                    workers give up its jobs after 30 s and wait for another;
//	                                    the next run plans again from the mirror
//
// # Same bytes
//
// A job has all that its delta depends on, the memory of the index too, but for the program. So
// builder and workers of another version of the program do not see each other.
package farm
