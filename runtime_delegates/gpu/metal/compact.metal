// Written by build_shaders.py from shaders/compact.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#pragma clang diagnostic ignored "-Wunused-variable"

#include <metal_stdlib>
#include <simd/simd.h>
#include <metal_atomic>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Push
{
    uint experts;
    uint score_stride;
    uint norm;
    uint classes;
    uint norm_at;
    uint up_tiles;
    uint block;
    uint index;
    float eps;
    float norm_scale;
    float out_scale;
};

struct Step
{
    uint step_[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Scores
{
    float scores[1];
};

struct Result
{
    uint result[1];
};

constant uint _317 = (THREADS / 32u);

struct NormWeight
{
    float norm_weight[1];
};

struct Route
{
    uint route[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _664 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_664, 1u, 1u);

kernel void compact(constant Push& p [[buffer(0)]], const device Scores& _163 [[buffer(2)]], const device NormWeight& _490 [[buffer(4)]], const device Step& _86 [[buffer(5)]], device Result& _209 [[buffer(6)]], device Route& _541 [[buffer(7)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup uint active_[64];
    threadgroup uint longest;
    threadgroup float sums[THREADS];
    threadgroup float factors[64];
    uint _718 = _86.step_[0];
    uint _722 = (p.experts + 31u) / 32u;
    for (uint _1283 = gl_LocalInvocationID.x; _1283 < _722; )
    {
        active_[_1283] = 0u;
        _1283 += THREADS;
        continue;
    }
    bool _737 = gl_LocalInvocationID.x == 0u;
    if (_737)
    {
        longest = 0u;
    }
    for (uint _1284 = 0u; _1284 < _718; _1284 += _317)
    {
        uint _749 = _1284 + (gl_LocalInvocationID.x / 32u);
        bool _752 = _749 < _718;
        bool _1338;
        float _1341;
        if (_752)
        {
            uint _755 = gl_LocalInvocationID.x % 32u;
            bool _1339;
            float _1342;
            _1342 = 0.0;
            _1339 = true;
            bool _778;
            float _1357;
            for (uint _1337 = _755; _1337 < p.experts; _1342 = _1357, _1339 = _778, _1337 += 32u)
            {
                uint _768 = (_749 * p.score_stride) + _1337;
                float _772 = fast::max(_163.scores[_768], 0.0);
                if (_1339)
                {
                    _778 = (as_type<uint>(_163.scores[_768]) & 2147483647u) < 2139095040u;
                }
                else
                {
                    _778 = _1339;
                }
                if (p.norm == 1u)
                {
                    _1357 = fma(_772, _772, _1342);
                }
                else
                {
                    _1357 = spvFAdd(_1342, _772);
                }
            }
            _1341 = _1342;
            _1338 = _1339;
        }
        else
        {
            _1341 = 0.0;
            _1338 = true;
        }
        if (!_1338)
        {
            _209.result[0] = 1u;
        }
        sums[gl_LocalInvocationID.x] = _1341;
        for (uint _1343 = 16u; _1343 >= 1u; _1343 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if ((gl_LocalInvocationID.x % 32u) < _1343)
            {
                sums[gl_LocalInvocationID.x] = spvFAdd(sums[gl_LocalInvocationID.x], sums[gl_LocalInvocationID.x + _1343]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (((gl_LocalInvocationID.x % 32u) == 0u) && _752)
        {
            bool _846 = !((as_type<uint>(sums[gl_LocalInvocationID.x]) & 2147483647u) < 2139095040u);
            bool _852;
            if (_846)
            {
                _852 = p.norm != 0u;
            }
            else
            {
                _852 = _846;
            }
            if (_852)
            {
                _209.result[0] = 1u;
            }
            float _1345;
            if (p.norm == 1u)
            {
                _1345 = 1.0 / sqrt((sums[gl_LocalInvocationID.x] / float(p.experts)) + p.eps);
            }
            else
            {
                _1345 = 1.0;
            }
            float _1344;
            if (p.norm == 2u)
            {
                _1344 = 1.0 / fma(sums[gl_LocalInvocationID.x], p.norm_scale, 9.9999997473787516355514526367188e-06);
            }
            else
            {
                _1344 = _1345;
            }
            factors[_749] = _1344 * p.out_scale;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    uint _1285;
    _1285 = gl_LocalInvocationID.x;
    for (; _1285 < p.experts; _1285 += THREADS)
    {
        uint _1334;
        _1334 = 0u;
        for (uint _1333 = 0u; _1333 < _718; )
        {
            _1334 |= uint(_163.scores[(_1333 * p.score_stride) + _1285] > 0.0);
            _1333++;
            continue;
        }
        if (_1334 != 0u)
        {
            uint _932 = atomic_fetch_or_explicit((threadgroup atomic_uint*)&active_[_1285 / 32u], 1u << (_1285 % 32u), memory_order_relaxed);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint _1286 = gl_LocalInvocationID.x; _1286 < p.experts; _1286 += THREADS)
    {
        uint _947 = _1286 / 32u;
        uint _951 = _1286 % 32u;
        if (((active_[_947] >> _951) & 1u) == 0u)
        {
            continue;
        }
        uint _960 = _1286 % p.classes;
        uint _1300;
        _1300 = 0u;
        uint _1016;
        for (uint _1299 = 0u; _1299 < _722; _1300 = _1016, _1299++)
        {
            uint _1321;
            _1321 = _1300;
            uint _981;
            for (uint _1310 = 0u; _1310 < _960; _1321 = _981, _1310++)
            {
                uint _1327;
                if (p.classes == 1u)
                {
                    _1327 = 4294967295u;
                }
                else
                {
                    uint _1326;
                    if (p.classes == 2u)
                    {
                        _1326 = 1431655765u;
                    }
                    else
                    {
                        _1326 = (p.classes == 4u) ? 286331153u : 16843009u;
                    }
                    _1327 = _1326;
                }
                _981 = _1321 + uint(int(popcount(active_[_1299] & (_1327 << _1310))));
            }
            uint _1314;
            if (_1299 < _947)
            {
                _1314 = 4294967295u;
            }
            else
            {
                uint _1313;
                if (_1299 == _947)
                {
                    _1313 = (1u << _951) - 1u;
                }
                else
                {
                    _1313 = 0u;
                }
                _1314 = _1313;
            }
            uint _1318;
            if (p.classes == 1u)
            {
                _1318 = 4294967295u;
            }
            else
            {
                uint _1317;
                if (p.classes == 2u)
                {
                    _1317 = 1431655765u;
                }
                else
                {
                    _1317 = (p.classes == 4u) ? 286331153u : 16843009u;
                }
                _1318 = _1317;
            }
            _1016 = _1321 + uint(int(popcount((active_[_1299] & (_1318 << _960)) & _1314)));
        }
        uint _1027 = (16u + (p.experts * 4u)) + (_1300 * 64u);
        uint _1032 = _1027 + (p.experts * 64u);
        float _1302;
        if (p.norm == 1u)
        {
            _1302 = _490.norm_weight[p.norm_at + _1286];
        }
        else
        {
            _1302 = 1.0;
        }
        uint2 _705 = uint2(0u);
        uint _1308;
        _1308 = 0u;
        uint _1369;
        for (uint _1303 = 0u; _1303 < _718; _1308 = _1369, _1303++)
        {
            uint _1057 = (_1303 * p.score_stride) + _1286;
            float _1059 = _163.scores[_1057];
            if (!(_1059 > 0.0))
            {
                _1369 = _1308;
                continue;
            }
            uint _1066 = _1303 / 32u;
            _705[_1066] |= (1u << (_1303 % 32u));
            _541.route[_1027 + _1308] = _1303;
            _541.route[_1032 + _1308] = as_type<uint>((_1059 * factors[_1303]) * _1302);
            _1369 = _1308 + uint(1);
        }
        uint _1097 = _1300 * 4u;
        _541.route[16u + _1097] = _1286;
        _541.route[_1097 + 17u] = _1308;
        _541.route[_1097 + 18u] = _705.x;
        _541.route[_1097 + 19u] = _705.y;
        uint _1117 = atomic_fetch_max_explicit((threadgroup atomic_uint*)&longest, _1308, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (_737)
    {
        uint _1288;
        _1288 = 0u;
        uint _1360;
        for (uint _1287 = 0u; _1287 < 8u; _1288 = _1360, _1287++)
        {
            _541.route[4u + _1287] = _1288;
            if (_1287 < p.classes)
            {
                uint _1295;
                _1295 = _1288;
                uint _1153;
                for (uint _1289 = 0u; _1289 < _722; _1295 = _1153, _1289++)
                {
                    uint _1293;
                    if (p.classes == 1u)
                    {
                        _1293 = 4294967295u;
                    }
                    else
                    {
                        uint _1292;
                        if (p.classes == 2u)
                        {
                            _1292 = 1431655765u;
                        }
                        else
                        {
                            _1292 = (p.classes == 4u) ? 286331153u : 16843009u;
                        }
                        _1293 = _1292;
                    }
                    _1153 = _1295 + uint(int(popcount(active_[_1289] & (_1293 << _1287))));
                }
                _1360 = _1295;
            }
            else
            {
                _1360 = _1288;
            }
        }
        _541.route[12] = _1288;
        _541.route[0] = _1288;
        _541.route[1] = p.up_tiles;
        _541.route[2] = _1288;
        _541.route[3] = ((longest + p.block) - 1u) / p.block;
        _209.result[1u + p.index] = _1288;
    }
}

