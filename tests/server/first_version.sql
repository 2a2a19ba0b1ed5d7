BEGIN TRANSACTION;
CREATE TABLE api_client_authorizations (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	user_uuid VARCHAR, 
	scopes JSON NOT NULL, 
	expires_at BIGINT, 
	caller_kind VARCHAR NOT NULL, 
	secret_hash VARCHAR, 
	dispatcher_name VARCHAR, 
	container_uuid VARCHAR, 
	PRIMARY KEY (uuid)
);
INSERT INTO "api_client_authorizations" VALUES('zzzzz-gj3su-3noc1f9is46i1rk','zzzzz-tpzed-78easqob0f7me5c',1800000000000000,1800000000000000,'zzzzz-tpzed-78easqob0f7me5c','zzzzz-tpzed-78easqob0f7me5c','["all"]',NULL,'user','2a217d2ab41655eaf98f27e9da94da4931f05877f36167adf37932b916ad8a90',NULL,NULL);
INSERT INTO "api_client_authorizations" VALUES('zzzzz-gj3su-td56235k8hwzolg','zzzzz-tpzed-000000000000000',1800000000002000,1800000000002000,'zzzzz-tpzed-000000000000000','zzzzz-tpzed-000000000000000','["all"]',NULL,'dispatcher','5bbe0b0c2abcd64df90043204bae4b2d67decd03d5a54853810202ffb57e8a25','d1',NULL);
CREATE TABLE attempts (
	request_uuid VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	container_uuid VARCHAR NOT NULL, 
	PRIMARY KEY (request_uuid, attempt), 
	FOREIGN KEY(request_uuid) REFERENCES container_requests (uuid), 
	FOREIGN KEY(container_uuid) REFERENCES containers (uuid)
);
INSERT INTO "attempts" VALUES('zzzzz-xvhdp-v51spdfezwdvkid',1,'zzzzz-dz642-o453cph3gab900l');
INSERT INTO "attempts" VALUES('zzzzz-xvhdp-kvi3sqqrombvolu',1,'zzzzz-dz642-jqt9l0jrujmjlhy');
CREATE TABLE container_requests (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	name VARCHAR NOT NULL, 
	description TEXT NOT NULL, 
	properties JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	priority BIGINT NOT NULL, 
	command JSON NOT NULL, 
	cwd VARCHAR NOT NULL, 
	environment JSON NOT NULL, 
	output_path VARCHAR NOT NULL, 
	output_glob JSON NOT NULL, 
	container_image VARCHAR NOT NULL, 
	mounts JSON NOT NULL, 
	runtime_constraints JSON NOT NULL, 
	scheduling_parameters JSON NOT NULL, 
	output_storage_classes JSON NOT NULL, 
	service BOOLEAN NOT NULL, 
	published_ports JSON NOT NULL, 
	content_address VARCHAR, 
	requesting_container_uuid VARCHAR, 
	container_uuid VARCHAR, 
	container_count_max BIGINT NOT NULL, 
	container_count BIGINT NOT NULL, 
	use_existing BOOLEAN NOT NULL, 
	run_after BIGINT, 
	expires_at BIGINT, 
	output_name VARCHAR, 
	output_ttl BIGINT NOT NULL, 
	output_properties JSON NOT NULL, 
	output_uuid VARCHAR, 
	log_uuid VARCHAR, 
	cumulative_cost FLOAT NOT NULL, 
	filters JSON, 
	secret_mounts JSON NOT NULL, 
	runtime_token TEXT, 
	PRIMARY KEY (uuid)
);
INSERT INTO "container_requests" VALUES('zzzzz-xvhdp-v51spdfezwdvkid','zzzzz-tpzed-78easqob0f7me5c',1800000000001000,1800000000002000,'zzzzz-tpzed-78easqob0f7me5c','','','{}','Committed',9,'["true"]','.','{}','/out','[]','','{"/out": {"kind": "tmp"}}','{"vcpus": 1, "ram": 1073741824}','{}','[]',0,'{}','e334d3cbece5a8ed8553038dc25c38925bb7cb8b2878d338ce80b63db71325b4',NULL,'zzzzz-dz642-o453cph3gab900l',1,1,1,NULL,NULL,NULL,0,'{}',NULL,NULL,0.0,NULL,'{}',NULL);
INSERT INTO "container_requests" VALUES('zzzzz-xvhdp-kvi3sqqrombvolu','zzzzz-tpzed-78easqob0f7me5c',1800000000002000,1800000000002000,'zzzzz-tpzed-78easqob0f7me5c','','','{}','Committed',500,'["true"]','.','{}','/out','[]','','{"/out": {"kind": "tmp"}}','{"vcpus": 1, "ram": 1073741824}','{}','[]',0,'{}','e334d3cbece5a8ed8553038dc25c38925bb7cb8b2878d338ce80b63db71325b4',NULL,'zzzzz-dz642-jqt9l0jrujmjlhy',1,1,1,NULL,NULL,NULL,0,'{}',NULL,NULL,0.0,NULL,'{}',NULL);
CREATE TABLE containers (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	state VARCHAR NOT NULL, 
	priority BIGINT NOT NULL, 
	command JSON NOT NULL, 
	cwd VARCHAR NOT NULL, 
	environment JSON NOT NULL, 
	output_path VARCHAR NOT NULL, 
	output_glob JSON NOT NULL, 
	container_image VARCHAR NOT NULL, 
	mounts JSON NOT NULL, 
	runtime_constraints JSON NOT NULL, 
	scheduling_parameters JSON NOT NULL, 
	output_storage_classes JSON NOT NULL, 
	service BOOLEAN NOT NULL, 
	published_ports JSON NOT NULL, 
	content_address VARCHAR, 
	dispatcher VARCHAR, 
	attempt BIGINT NOT NULL, 
	previous_uuid VARCHAR, 
	temp_fails BIGINT NOT NULL, 
	run_after BIGINT, 
	hold BOOLEAN NOT NULL, 
	given_back BOOLEAN NOT NULL, 
	runner_id VARCHAR, 
	scheduler_job VARCHAR, 
	locked_at BIGINT, 
	started_at BIGINT, 
	finished_at BIGINT, 
	locked_by_uuid VARCHAR, 
	lock_count BIGINT NOT NULL, 
	auth_uuid VARCHAR, 
	runtime_user_uuid VARCHAR, 
	runtime_auth_scopes JSON NOT NULL, 
	runtime_status JSON NOT NULL, 
	exit_code BIGINT, 
	log VARCHAR, 
	output VARCHAR, 
	progress FLOAT, 
	output_properties JSON NOT NULL, 
	cost FLOAT NOT NULL, 
	subrequests_cost FLOAT NOT NULL, 
	gateway_address VARCHAR, 
	interactive_session_started BOOLEAN NOT NULL, 
	secret_mounts JSON NOT NULL, 
	runtime_token TEXT, 
	shape_id BIGINT, 
	avoid_dispatcher VARCHAR, 
	avoid_until BIGINT, 
	claim_id VARCHAR, 
	change_seq BIGINT NOT NULL, 
	PRIMARY KEY (uuid)
);
INSERT INTO "containers" VALUES('zzzzz-dz642-o453cph3gab900l','zzzzz-tpzed-78easqob0f7me5c',1800000000001000,1800000000002000,'zzzzz-tpzed-78easqob0f7me5c','Locked',10131299161583615,'["true"]','.','{}','/out','[]','','{"/out": {"kind": "tmp"}}','{"vcpus": 1, "ram": 1073741824}','{}','[]',0,'{}','e334d3cbece5a8ed8553038dc25c38925bb7cb8b2878d338ce80b63db71325b4','zzzzz-bmxii-negyjql4yn97asw',1,NULL,0,NULL,0,0,NULL,NULL,1800000000002000,NULL,NULL,'zzzzz-gj3su-td56235k8hwzolg',1,NULL,'zzzzz-tpzed-78easqob0f7me5c','[]','{}',NULL,NULL,NULL,NULL,'{}',0.0,0.0,NULL,0,'{}',NULL,1,NULL,NULL,NULL,3);
INSERT INTO "containers" VALUES('zzzzz-dz642-jqt9l0jrujmjlhy','zzzzz-tpzed-78easqob0f7me5c',1800000000002000,1800000000002000,'zzzzz-tpzed-78easqob0f7me5c','Queued',562948153421311998,'["true"]','.','{}','/out','[]','','{"/out": {"kind": "tmp"}}','{"vcpus": 1, "ram": 1073741824}','{}','[]',0,'{}','e334d3cbece5a8ed8553038dc25c38925bb7cb8b2878d338ce80b63db71325b4',NULL,1,NULL,0,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,'zzzzz-tpzed-78easqob0f7me5c','[]','{}',NULL,NULL,NULL,NULL,'{}',0.0,0.0,NULL,0,'{}',NULL,1,NULL,NULL,NULL,0);
CREATE TABLE dispatchers (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	name VARCHAR, 
	scheduler VARCHAR NOT NULL, 
	capabilities JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	epoch BIGINT NOT NULL, 
	first_ping_at BIGINT, 
	last_ping_at BIGINT, 
	last_turn_at BIGINT, 
	ended_at BIGINT, 
	token_uuid VARCHAR, 
	lease_ends_at BIGINT, 
	change_seq BIGINT NOT NULL, 
	PRIMARY KEY (uuid)
);
INSERT INTO "dispatchers" VALUES('zzzzz-bmxii-negyjql4yn97asw','zzzzz-tpzed-000000000000000',1800000000002000,1800000000002000,'zzzzz-tpzed-000000000000000','d1','fake','{"largest": [{"cores": 8, "ram_bytes": 17179869184, "scratch_bytes": 107374182400, "gpus": 0}], "partitions": []}','alive',1,1800000000002000,1800000000002000,1800000000002000,NULL,'zzzzz-gj3su-td56235k8hwzolg',1800000600002000,3);
CREATE TABLE heartbeat (
	id INTEGER NOT NULL, 
	stamped_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE links (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	link_class VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	tail_uuid VARCHAR, 
	head_uuid VARCHAR, 
	properties JSON NOT NULL, 
	PRIMARY KEY (uuid)
);
CREATE TABLE logs (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	object_uuid VARCHAR, 
	object_owner_uuid VARCHAR, 
	event_at BIGINT, 
	event_type VARCHAR NOT NULL, 
	summary TEXT NOT NULL, 
	properties JSON NOT NULL, 
	PRIMARY KEY (uuid)
);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE shape_fits (
	dispatcher_uuid VARCHAR NOT NULL, 
	shape_id INTEGER NOT NULL, 
	PRIMARY KEY (dispatcher_uuid, shape_id), 
	FOREIGN KEY(dispatcher_uuid) REFERENCES dispatchers (uuid), 
	FOREIGN KEY(shape_id) REFERENCES shapes (id)
);
INSERT INTO "shape_fits" VALUES('zzzzz-bmxii-negyjql4yn97asw',1);
CREATE TABLE shapes (
	id INTEGER NOT NULL, 
	form TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (form)
);
INSERT INTO "shapes" VALUES(1,'{"cores": 1, "gpus": 0, "partitions": [], "preemptible": false, "ram_bytes": 1073741824, "scratch_bytes": 0}');
CREATE TABLE users (
	uuid VARCHAR NOT NULL, 
	owner_uuid VARCHAR, 
	created_at BIGINT, 
	modified_at BIGINT, 
	modified_by_user_uuid VARCHAR, 
	username VARCHAR NOT NULL, 
	email VARCHAR NOT NULL, 
	first_name VARCHAR NOT NULL, 
	last_name VARCHAR NOT NULL, 
	is_active BOOLEAN NOT NULL, 
	is_admin BOOLEAN NOT NULL, 
	PRIMARY KEY (uuid)
);
INSERT INTO "users" VALUES('zzzzz-tpzed-000000000000000','zzzzz-tpzed-000000000000000',1800000000000000,1800000000000000,'zzzzz-tpzed-000000000000000','root','','','',1,1);
INSERT INTO "users" VALUES('zzzzz-tpzed-78easqob0f7me5c','zzzzz-tpzed-000000000000000',1800000000000000,1800000000000000,'zzzzz-tpzed-000000000000000','ada','','','',1,0);
CREATE INDEX ix_container_requests_container ON container_requests (container_uuid);
CREATE INDEX ix_container_requests_modified ON container_requests (modified_at, uuid);
CREATE INDEX ix_container_requests_expires ON container_requests (expires_at);
CREATE INDEX ix_container_requests_owner ON container_requests (owner_uuid, modified_at, uuid);
CREATE INDEX ix_containers_waiting ON containers (state, priority DESC, created_at, uuid, shape_id, run_after, hold, avoid_dispatcher, avoid_until);
CREATE INDEX ix_containers_owner ON containers (owner_uuid, modified_at, uuid);
CREATE INDEX ix_containers_modified ON containers (modified_at, uuid);
CREATE INDEX ix_containers_changes ON containers (dispatcher, change_seq);
CREATE INDEX ix_containers_claim ON containers (dispatcher, claim_id);
CREATE INDEX ix_containers_run_after ON containers (state, run_after, priority);
CREATE INDEX ix_containers_content ON containers (content_address);
CREATE INDEX ix_containers_held ON containers (dispatcher, state);
CREATE INDEX ix_containers_avoid_until ON containers (state, avoid_until, priority);
CREATE INDEX ix_dispatchers_modified ON dispatchers (modified_at, uuid);
CREATE INDEX ix_dispatchers_state ON dispatchers (state, lease_ends_at);
CREATE INDEX ix_dispatchers_owner ON dispatchers (owner_uuid, modified_at, uuid);
CREATE INDEX ix_dispatchers_token ON dispatchers (token_uuid, state);
CREATE UNIQUE INDEX ix_links_reason ON links (tail_uuid, head_uuid) WHERE link_class = 'dispatch';
CREATE INDEX ix_links_owner ON links (owner_uuid, modified_at, uuid);
CREATE INDEX ix_links_modified ON links (modified_at, uuid);
CREATE INDEX ix_links_head ON links (head_uuid);
CREATE INDEX ix_logs_modified ON logs (modified_at, uuid);
CREATE INDEX ix_logs_object ON logs (object_uuid, event_at);
CREATE INDEX ix_logs_owner ON logs (owner_uuid, modified_at, uuid);
CREATE UNIQUE INDEX ix_users_username ON users (username);
CREATE UNIQUE INDEX ix_authorizations_hash ON api_client_authorizations (secret_hash);
CREATE INDEX ix_authorizations_container ON api_client_authorizations (container_uuid);
CREATE INDEX ix_attempts_container_uuid ON attempts (container_uuid);
COMMIT;
